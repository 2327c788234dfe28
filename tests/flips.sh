#!/bin/bash
# Bytes of a store, of a model's weights and of a checkpoint are changed, one at a time: whatever programs do then, none may
# end by a signal. tests/unit/shard_flips.c does the same to stores in one process, and so to more bytes. Prints TAP.
# usage: [BUILD=build] [FLIPS=all] tests/flips.sh [store|encode|fit|resume|plms]...
# FLIPS=all: every byte of a store of one record, of state.json and of the headers of weight files, and a sample of the values
# in these, where no byte decides anything: hours, an hour for each part with TMPDIR in memory.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH" LC_ALL=C CCLD_DEVICE=cpu
unset CCLD_MODEL
what=${*:-store encode fit resume plms}
if [ $# = 0 ] && nm "$build/ccld-encode" | grep -q __asan_init; then
    echo '1..0 # SKIP takes long with sanitizers: name a part'
    exit 0
fi

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
ulimit -c 0

. "$top/tests/support/tap.sh"

"$build/tests/synth/synth-model" -q --embed 16 --unet-base 64 --unet-multipliers 1,1,1,1 --unet-cond 32 --image-size 32 --image-width 64 \
    --image-layers 1 --text-width 64 --text-layers 1 --vocabulary 514 --kl-channels 32 -o model 2>log || { cat log; exit 2; }
others="$top/tests/golden/data/images/photo420.jpg $top/tests/golden/data/images/gray16.png"
[ "${FLIPS:-}" != all ] || others=
ls "$top/tests/golden/data/images/gray.jpg" $others |
    ccld-encode -q -m model --size 64 -o store 2>log || { cat log; exit 2; }
fit="ccld-fit -q --threads 1 -b 1 --holdout 0"
$fit store -o run --init-from model/diffusion.safetensors --steps 1 2>log || { cat log; exit 2; }

masks=(1 128 255 16 2)
# Offsets of the file, unless all: the first ones, the beginning of each page, and COUNT others spread over it.
offsets() { # FILE FIRST PAGE-BYTES COUNT
    local size i first=$2
    size=$(stat -c %s "$1")
    if [ "${FLIPS:-}" = all ]; then
        case $1 in
        *.safetensors) first=$(($(od -An -N 8 -tu8 "$1") + 8)) ;;
        *) first=$size ;;
        esac
    fi
    { seq 0 $((first - 1)) && seq 7 $((size / $4)) $((size - 1)) &&
        for ((i = 0; $3 > 0 && i < size; i += 4096)); do seq $i $((i + $3 - 1)); done; } | sort -nu
}
put_byte() { # FILE OFFSET VALUE
    printf "\\$(printf %03o "$3")" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
# Runs COMMAND for each changed byte of FILE. It restores what it changes, apart from that byte.
flip() { # NAME FILE OFFSETS COMMAND
    local name=$1 file=$2 command=$4 i n=0 byte good=0 signals= status
    $command >/dev/null 2>log
    ok $? "$name: nothing changed"
    for i in $3; do
        n=$((n + 1))
        byte=$(($(od -An -j "$i" -N 1 -tu1 "$file")))
        put_byte "$file" "$i" $((byte ^ masks[i % 5]))
        status=0
        $command >/dev/null 2>>errors || status=$?
        if ((status >= 128)); then signals+="byte $i ^ ${masks[i % 5]}: status $status"$'\n'; fi
        if ((status == 0)); then good=$((good + 1)); fi
        put_byte "$file" "$i" $byte
    done
    report "$name: $n changed bytes end no program by a signal ($good go unnoticed)" "$signals"
}

inspect() {
    local worst=0 command status
    for command in 'stat store' 'verify store' 'ls store' 'cat store 0'; do
        status=0
        ccld-shards -q $command || status=$?
        if ((status > worst)); then worst=$status; fi
    done
    return $worst
}
encode() {
    rm -rf copy
    cp -r store copy
    echo "$top/tests/golden/data/images/gray_alpha.png" | ccld-encode -q -m model --size 64 --threads 1 -o copy
}
train() {
    rm -rf new
    $fit store -o new --init-from model/diffusion.safetensors --steps 1
}
resume() { # checkpoints are never written to again, so links to their files will do
    rm -rf copy
    mkdir -p "copy/$(readlink run/latest)"
    cp -P run/*.* run/latest copy
    ln run/latest/* copy/latest
    ccld-fit -q --threads 1 --resume copy --steps 2
}
sample() {
    ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --threads 1 --size 64 --steps 1 red
}

for part in $what; do
    case $part in
    store) flip 'a store inspected' store/00000.mdb "$(offsets store/00000.mdb 152 24 40)" inspect ;;
    encode) flip 'a store written to' store/00000.mdb "$(offsets store/00000.mdb 0 2 9)" encode ;;
    fit) flip 'a store trained on' store/00000.mdb "$(offsets store/00000.mdb 0 2 9)" train ;;
    resume)
        for file in raw.safetensors diffusion.safetensors optimizer.safetensors; do
            flip "a run with a damaged $file resumed" run/latest/$file "$(offsets run/latest/$file 3 0 9)" resume
        done
        flip 'a run with a damaged state.json resumed' run/latest/state.json "$(offsets run/latest/state.json 0 0 30)" resume
        ;;
    plms)
        for file in model/{autoencoder,cloob}.safetensors run/latest/diffusion.safetensors; do
            flip "samples with a damaged $file" $file "$(offsets $file 3 0 9)" sample
        done
        ;;
    esac
done
echo "1..$number"
exit $((failed > 0))
