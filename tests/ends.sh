#!/bin/bash
# What becomes of people's files when a program starts or ends in an unusual way: with closed standard streams, with
# nobody left to read its messages, or told to write over its own input. Prints TAP.
# usage: [BUILD=build] tests/ends.sh
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
export PATH="$build:$PATH" LC_ALL=C CCLD_DEVICE=cpu
unset CCLD_MODEL

work=$(mktemp -d) || exit 2
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 2

. "$top/tests/support/tap.sh"

exec 2>stderr # where the shell reports processes that are killed
: >log
"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 12 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
encode="ccld-encode -m model --size 64"
$encode -q -o shards <list || exit 2

# Closed standard streams. No file of a program may take their numbers.
closed() { # STREAMS COMMAND...: runs the command with standard streams closed, and prints its status
    local streams=$1
    shift
    (
        [[ $streams != *0* ]] || exec <&-
        [[ $streams != *1* ]] || exec >&-
        [[ $streams != *2* ]] || exec 2>&-
        exec "$@"
    ) </dev/null >out 2>log
    status=$?
}
for streams in 0 1 2 01 02 12 012; do
    closed $streams $encode --max-failures 60 --rejects rejects$streams -o store$streams nope.jpg $(head -n 4 list)
    [ $status = 0 ] && ccld-shards -q verify store$streams 2>>log && [ "$(ccld-shards ls store$streams | wc -l)" = 4 ] &&
        [ "$(cat rejects$streams)" = nope.jpg ]
    ok $? "ccld-encode without streams $streams stores all records, and only them"
    closed $streams $encode --devices 2 --max-failures 60 -o parts$streams nope.jpg $(head -n 4 list)
    [ $status = 0 ] && ccld-shards -q verify parts$streams 2>>log && [ "$(ccld-shards ls parts$streams | wc -l)" = 4 ]
    ok $? 'so do two processes'
    for ranks in 1 2; do
        closed $streams ccld-fit shards --init-from model/diffusion.safetensors -b 2 --steps 2 --devices $ranks -o run$streams-$ranks
        [ $status = 0 ] && ccld-fit -q --resume run$streams-$ranks --steps 3 2>>log
        ok $? "ccld-fit on $ranks ranks leaves a run that can be resumed"
    done
    closed $streams ccld-weights convert model/cloob.safetensors -o converted.pt
    [ $status = 0 ] && ccld-weights ls converted.pt >out 2>>log
    ok $? 'ccld-weights writes what it can read'
done
sums() { find shards model images -type f ! -name "*-lock" ! -name "lock*" | sort | xargs cksum; }
sums >before
for command in 'ccld-shards ls shards' 'ccld-shards stat shards' 'ccld-shards cat shards 0' "ccld-grid $(head -n 1 list)" \
    'ccld-weights ls model/cloob.safetensors' 'ccld-plms -m model --size 64 --steps 1 heart' 'ccld-encode --help'; do
    for streams in 1 01 012; do
        closed $streams $command
        [ $status = 1 ] && { [[ $streams = *2* ]] || [ "$(grep -c 'cannot write to standard output' log)" = 1 ]; }
        ok $? "'${command%% /*}' without streams $streams fails, and says why"
    done
done
closed 0 ccld-fit-autoencoder -o never
[ $status != 0 ] && [ ! -e never ]
ok $? 'a closed standard input is an empty list'
sums | cmp before - 2>>log
ok $? 'no input has changed'

echo "1..$number"
[ $failed = 0 ]
