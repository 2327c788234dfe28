#!/bin/sh
# Repeats the op checker with the CPU backend limited to older instruction sets, and with products of BF16 if the processor has them,
# which it may prefer not to use. TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
number=0 failed=0
set -- generic avx2
! grep -qw avx512_bf16 /proc/cpuinfo || set -- "$@" avx512 avx512-bf16
echo "1..$#"
for set in "$@"; do
    number=$((number + 1))
    if output=$(CCLD_CPU=$set "$build/tests/op/checker" 2>&1); then
        echo "ok $number - every op agrees with plain C with CCLD_CPU=$set"
    else
        failed=$((failed + 1))
        echo "not ok $number - every op agrees with plain C with CCLD_CPU=$set"
        echo "$output" | grep -v '^ok' | sed 's/^/# /'
    fi
done
[ $failed = 0 ]
