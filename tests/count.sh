#!/bin/sh
# A GPU's work for the networks, as counted on the emulator, does not grow unnoticed. TAP.
# usage: [BUILD=build] tests/count.sh
set -u
build=$(cd "${BUILD:-build}" && pwd) || exit 2
cd "$(dirname "$0")/.." || exit 2
. tests/support/tap.sh
echo 1..5

# The sum of a column: launches, TFLOP, GB or ms.
sum() { # COLUMN OPTION...
    local column=$1
    shift
    "$build/tests/bench/count" --tsv "$@" | awk -F '\t' -v c="$column" '$2 == "sum" { print $c }'
}
at_most() { # NUMBER LIMIT
    awk -v n="$1" -v limit="$2" 'BEGIN { exit !(n != "" && n > 0.9 * limit && n <= limit) }'
}
launches=$(sum 3 --precision bf16)
at_most "$launches" 641
ok $? "a training step in bf16 takes $launches launches"
bytes=$(sum 5 --precision bf16)
at_most "$bytes" 88.2
ok $? "and moves $bytes GB"
launches=$(sum 3 --precision bf16 --work sample)
at_most "$launches" 16578
ok $? "four guided images take $launches launches"
launches=$(sum 3 --precision bf16 --work encode)
at_most "$launches" 237
ok $? "encoding a batch takes $launches launches"
# What tests/gpu-session shows beside its measurements.
log=$(mktemp) || exit 2
trap 'rm -f "$log"' EXIT
modelled=tests/bench/modelled/unet-192-64-bf16
{
    sed '/^class/q' $modelled
    "$build/tests/bench/count" --tsv --precision bf16 | awk -F '\t' '$4 != "" { printf "%-22s %6.1f %6.1f %6.1f\n", $2, $4, $5, $6 }'
} | diff $modelled - >"$log"
ok $? "$modelled is what the counter says"
