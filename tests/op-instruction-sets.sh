#!/bin/sh
# Repeats the op checker with the CPU backend limited to older instruction sets. TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
number=0 failed=0
echo 1..2
for set in generic avx2; do
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
