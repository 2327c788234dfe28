#!/bin/sh
# Repeats the op checker with the CPU backend limited to older instruction sets, and where the processor has products of BF16, as it
# would run without them or with those that it prefers not to use (find_bf16 in kernels/cpu/isa.c). TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
number=0 failed=0
set -- generic avx2
has() {
    grep -qw "$1" /proc/cpuinfo
}
if has amx_bf16; then
    set -- "$@" avx512 avx512-bf16
elif has avx512_bf16 && has GenuineIntel; then
    set -- "$@" avx512-bf16
elif has avx512_bf16; then
    set -- "$@" avx512
fi
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
