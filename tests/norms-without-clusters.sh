#!/bin/sh
# Group norms on GPUs before sm_90, which have no clusters of blocks, and on later ones, emulated. TAP.
# usage: [BUILD=build] tests/norms-without-clusters.sh
set -u
build=$(cd "${BUILD:-build}" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
. tests/support/tap.sh
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
echo 1..4
for capability in 80 90; do
    for precision in fp32 bf16; do
        BUILD=$build CCLD_EMULATED_CAPABILITY=$capability \
            tests/on-device "emulated-$precision:$build/tests/op/checker" --op group_norm >"$log" 2>&1
        ok $? "sm_$capability in $precision"
    done
done
[ $failed = 0 ]
