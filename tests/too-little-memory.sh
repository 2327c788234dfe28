#!/bin/bash
# What programs print if a GPU has too little memory, on the emulator: one line that says what would fit. Prints TAP.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH" LC_ALL=C CCLD_CUDA_PLUGIN="$build/tests/cuda-host/libccld-cuda-host.so"
unset CCLD_MODEL CCLD_DEVICE CCLD_PRECISION

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
export XDG_CACHE_HOME="$work"

. "$top/tests/support/tap.sh"
told() { # PATTERN NAME: the log is a single line that matches
    [ "$(wc -l <log)" = 1 ] && grep -Eq "$1" log
    ok $? "$2"
}

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
ls "$top"/tests/golden/data/images/*.* | head -n 9 >list
ccld-encode -q --device cpu -m model --size 256 -o shards <list 2>log || exit 2

fit() { # N OPTION...: on a device with N times 10 MB besides the gigabyte that is kept free
    local bytes=$(((1 << 30) + $1 * 10000000))
    shift
    CCLD_EMULATED_MEMORY=$bytes ccld-fit shards -o run --device cuda --base-channels 16 \
        --channel-multipliers 4,4,4,4 --batch-size 8 --steps 1 "$@" >log 2>&1
}
number_of='[0-9.]+ [MGk]?B'
fit 30
[ $? = 1 ]
ok $? "training that does not fit fails"
told "^ccld-fit: not enough memory: training needs $number_of, the device has 300.0 MB; no batch size fits" \
    "and says so if no batch would fit"
fit 42 # summing micro-batches takes memory, too
told "not enough memory.*; --batch-size [124] --accumulate [248] needs $number_of; --recompute .*needs" \
    "smaller batches and recomputing are suggested if they fit"
CCLD_EMULATED_MEMORY=2000000 ccld-plms -m model --device cuda --size 64 --steps 2 "a cat" 2>log >image
[ $? = 1 ]
ok $? "sampling without memory fails"
told "^ccld-plms: out of memory: .*: try a smaller --batch-size, or --low-memory$" "and says what to try instead"
[ ! -s image ]
ok $? "and writes nothing"
echo "1..$number"
[ $failed = 0 ]
