#!/bin/bash
# Bytes of a store, of a model's weights and of a checkpoint are changed, one at a time: whatever programs do then, none may
# end by a signal. tests/unit/shard_flips.c does the same to stores in one process, and so to more bytes. Prints TAP.
# usage: [BUILD=build] [FLIPS=all] tests/flips.sh [store|encode|fit|resume|plms]...
# FLIPS=all: every byte of a store of one record, of state.json and of the headers of weight files, and a sample of the values
# in these, where no byte decides anything: an hour or two, with TMPDIR in memory.
set -u
. "$(dirname "$0")/support/apart.sh"
export CCLD_DEVICE=cpu
what=${*:-store encode fit resume plms}
if [ $# = 0 ] && nm "$build/ccld-encode" | grep -q __asan_init; then
    echo '1..0 # SKIP takes long with sanitizers: name a part'
    exit 0
fi
ulimit -c 0

"$build/tests/synth/synth-model" -q --embed 16 --unet-base 64 --unet-multipliers 1,1,1,1 --unet-cond 32 --image-size 32 --image-width 64 \
    --image-layers 1 --text-width 64 --text-layers 1 --vocabulary 514 --kl-channels 32 -o model 2>log || { cat log; exit 2; }
others="$top/tests/golden/data/images/photo420.jpg $top/tests/golden/data/images/gray16.png"
[ "${FLIPS:-}" != all ] || others=
ls "$top/tests/golden/data/images/gray.jpg" $others |
    ccld-encode -q -m model --size 64 -o store 2>log || { cat log; exit 2; }
fit="ccld-fit -q --threads 1 -b 1 --holdout 0"
$fit store -o run --init-from model/diffusion.safetensors --steps 1 2>log || { cat log; exit 2; }

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
# Runs COMMAND for each changed byte of FILE, see tests/flips/shim.c. `clean` is a folder that it makes; `again` restores what a run
# without changes has changed; `limit` is the most KiB that a file may get.
clean= again= limit=unlimited
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # much memory takes less time then
flip() { # FILE OFFSETS COMMAND
    local file=$1 good others n
    printf '%s\n' "$2" >offsets
    shift 2
    local shown="$*"
    shown=${shown/ -q/}
    rm -rf "$clean"
    "$@" >/dev/null 2>log </dev/null
    ok $? "$shown: nothing changed"
    $again
    (ulimit -f "$limit" && LD_PRELOAD=$build/tests/flips/shim.so FLIP_FILE=$file FLIP_OFFSETS=offsets FLIP_RESULT=result FLIP_CLEAN=$clean \
        "$@" 2>log) || { ok 1 "$shown: cannot be tried" && return; }
    read -r _ good others < <(grep '^runs' result || echo 'runs 0 0')
    n=$(wc -l <offsets)
    report "the same with $n changed bytes of $file: none ends it by a signal (status 0 after $good, another after $others)" "$(grep -v '^runs' result)"
    [ $((good + others + $(grep -vc '^runs' result))) = "$n" ]
    ok $? 'all of them were tried'
}

for part in $what; do
    case $part in
    store)
        bytes=$(offsets store/00000.mdb 152 24 40)
        for command in 'stat store' 'verify store' 'ls --json store' 'cat store 0'; do
            flip store/00000.mdb "$bytes" ccld-shards -q $command
        done
        ;;
    encode)
        fresh() { rm -rf copy && cp -r store copy; }
        fresh
        again=fresh flip copy/00000.mdb "$(offsets copy/00000.mdb 0 2 9)" \
            ccld-encode -q -m model --size 64 --threads 1 --unique -o copy "$top/tests/golden/data/images/gray_alpha.png"
        ;;
    fit)
        # All that writing the checkpoint would do here is take most of the time.
        [ "${FLIPS:-}" != all ] || limit=1000
        clean=new flip store/00000.mdb "$(offsets store/00000.mdb 0 2 9)" $fit store -o new --init-from model/diffusion.safetensors --steps 1
        limit=unlimited
        ;;
    resume)
        # Up to the step that the run has reached: all is read, and nothing is written.
        for file in raw.safetensors diffusion.safetensors optimizer.safetensors; do
            flip run/latest/$file "$(offsets run/latest/$file 3 0 9)" ccld-fit -q --threads 1 --resume run --steps 1
        done
        flip run/latest/state.json "$(offsets run/latest/state.json 0 0 30)" ccld-fit -q --threads 1 --resume run --steps 1
        ;;
    plms)
        for file in model/{autoencoder,cloob}.safetensors run/latest/diffusion.safetensors; do
            flip "$file" "$(offsets "$file" 3 0 9)" \
                ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --threads 1 --size 64 --steps 1 red
        done
        ;;
    esac
done
echo "1..$number"
exit $((failed > 0))
