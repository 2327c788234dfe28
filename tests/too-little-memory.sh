#!/bin/bash
# What programs print if there is too little memory, of a GPU (on the emulator) or of the CPU: one line that says what
# would fit. Prints TAP.
set -u
. "$(dirname "$0")/support/apart.sh"
export CCLD_CUDA_PLUGIN="$build/tests/cuda-host/libccld-cuda-host.so"
unset CCLD_DEVICE CCLD_PRECISION
export XDG_CACHE_HOME="$work"
told() { # PATTERN NAME: the log is a single line that matches
    [ "$(wc -l <log)" = 1 ] && grep -Eq "$1" log
    ok $? "$2"
}

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
ls "$top"/tests/golden/data/images/*.* | head -n 9 >list
ccld-encode -q --device cpu -m model --size 256 -o shards <list 2>log || exit 2

fit() { # N OPTION...: on a device with N times 10 MB besides the two gigabytes that are kept free
    local bytes=$(((2 << 30) + $1 * 10000000))
    shift
    CCLD_EMULATED_MEMORY=$bytes ccld-fit shards -o run --device cuda --base-channels 16 \
        --channel-multipliers 4,4,4,4 --batch-size 8 --steps 1 "$@" >log 2>&1
}
number_of='[0-9.]+ [MGk]?B'
fit 30
[ $? = 1 ]
ok $? "training that does not fit fails"
told "^ccld-fit: not enough memory: training needs $number_of, the device has 299.9 MB; no batch size fits" \
    "and says so if no batch would fit"
fit 44 --batch-size 4 --accumulate 2
told "not enough memory.*; --batch-size [124] --accumulate [248] needs $number_of; --recompute .*needs" \
    "smaller batches and recomputing are suggested if they fit"
CCLD_EMULATED_MEMORY=2000000 ccld-plms -m model --device cuda --size 64 --steps 2 "a cat" 2>log >image
[ $? = 1 ]
ok $? "sampling without memory fails"
told "^ccld-plms: out of memory: .*: try a smaller --batch-size, or --low-memory$" "and says what to try instead"
[ ! -s image ]
ok $? "and writes nothing"
# On the CPU, limits of the process: what is said to fit does, and what is refused would not.
if [ -n "${SANITIZERS:-}" ] || nm "$build/ccld-plms" 2>/dev/null | grep -q __asan_init; then
    echo "ok $((number + 1)) - limits on address space # SKIP the address sanitizer maps terabytes"
    echo "1..$((number + 1))"
    [ $failed = 0 ]
    exit
fi
limited() { # MEGABYTES COMMAND...: with so much address space
    local kilobytes=$(($1 * 1000))
    shift
    (ulimit -v $kilobytes && "$@" >out 2>log)
}
refusal="not enough memory: .* needs $number_of, but $number_of of memory is available \(ulimit -v\)"
cpu_fit() {
    limited "$1" ccld-fit shards -o run --device cpu --threads 2 --base-channels 16 --channel-multipliers 4,4,4,4 \
        --batch-size 8 --steps 1 "${@:2}"
}
cpu_fit 350
[ $? = 1 ] && [ ! -e run ]
ok $? "training that does not fit in the CPU's memory fails, without a run's folder"
told "^ccld-fit: $refusal; " "and says what limits it and what would fit"
cpu_fit 750 && [ -e run ]
ok $? "with enough of it the same training runs"
limited 380 ccld-fit --resume run --steps 2
[ $? = 1 ] && grep -q '"step":.1,' run/latest/state.json
ok $? "a run that does not fit is not resumed and stays as it was"
told "^ccld-fit: ($refusal; |out of memory: |cannot resume .*cannot map)" "and says so"
limited 200 ccld-fit shards -o other --init-from model/diffusion.safetensors --device cpu --threads 2 --batch-size 8 --steps 1
[ $? = 1 ] && [ ! -e other ]
ok $? "finetuning that does not fit fails, too"

limited 400 ccld-fit-autoencoder -o autoencoder --device cpu --threads 2 --batch-size 4 --steps 1 <list
[ $? = 1 ] && [ ! -e autoencoder ]
ok $? "an autoencoder that does not fit is not trained"
told "^ccld-fit-autoencoder: $refusal; " "and says so"
sed 's/$/\ta cat/' list >pairs
limited 400 ccld-fit-cloob -o cloob --device cpu --threads 2 --batch-size 4 --steps 1 <pairs
[ $? = 1 ] && [ ! -e cloob ]
ok $? "CLOOB that does not fit is not trained"
told "^ccld-fit-cloob: $refusal; " "and says so"

limited 400 ccld-encode --device cpu --threads 2 -m model --size 256 --batch-size 32 -o store <list
[ $? = 1 ] && [ ! -e store ]
ok $? "encoding that does not fit fails, without a store"
told "^ccld-encode: $refusal; --batch-size [0-9]+ needs $number_of\$" "and says which batch would fit"
fits=$(sed -n 's/.*--batch-size \([0-9]*\).*/\1/p' log)
limited 400 ccld-encode -q --device cpu --threads 2 -m model --size 256 --batch-size "$fits" -o store <list
ok $? "which is so"

limited 300 ccld-plms --device cpu --threads 2 -m model --size 512 -n 8 --batch-size 8 --steps 2 "a cat"
[ $? = 1 ] && [ ! -s out ]
ok $? "sampling that does not fit fails and writes nothing"
told "^ccld-plms: $refusal; (even )?--" "and says what it would take"

head -c 48000000 /dev/zero >pixels
for i in 1 2 3 4 5 6; do
    printf 'P6\n4000 4000\n255\n'
    cat pixels
done >images
limited 400 ccld-grid images -o grid.png
[ $? = 1 ] && [ ! -e grid.png ]
ok $? "a grid that does not fit is not drawn"
told "^ccld-grid: .*not enough memory.*\(ulimit -v\); about [0-9]+ of this size would fit" "and says how many images would fit"

limited 60 ccld-weights convert model/diffusion.safetensors -o copy.ckpt
ok $? "converting weights takes no memory for them"
echo "1..$number"
[ $failed = 0 ]
