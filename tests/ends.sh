#!/bin/bash
# What becomes of people's files when a program starts or ends in an unusual way: with closed standard streams, with
# nobody left to read its messages, or told to write over its own input. Prints TAP.
# usage: [BUILD=build] tests/ends.sh
set -u
# nohup, under which tests may run, would have SIGHUP ignored by all programs.
[ -n "${ENDS_SIGNALS:-}" ] || ENDS_SIGNALS=1 exec env --default-signal=HUP "$0" "$@"
. "$(dirname "$0")/support/apart.sh"
export CCLD_DEVICE=cpu GOLDEN="$top/tests/golden/data"

exec 2>stderr # where the shell reports processes that are killed
: >log
"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 12 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
encode="ccld-encode -m model --size 64"
$encode -q -o shards <list || exit 2
echo text >text.jpg

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
    closed $streams $encode --max-failures 60 --rejects rejects$streams -o store$streams text.jpg $(head -n 4 list)
    [ $status = 0 ] && ccld-shards -q verify store$streams 2>>log && [ "$(ccld-shards ls store$streams | wc -l)" = 4 ] &&
        [ "$(cat rejects$streams)" = text.jpg ]
    ok $? "ccld-encode without streams $streams stores all records, and only them"
    closed $streams $encode --devices 2 --max-failures 60 -o parts$streams text.jpg $(head -n 4 list)
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

# Nobody left to read messages, a terminal that closes, and nohup.
step() { sed -n 's/^\t"step":\t\([0-9]*\),$/\1/p' "$1/latest/state.json"; }
lines() { # FILE COUNT PROCESS: waits until the file has so many lines, at most while the process runs
    until [ "$(wc -l 2>/dev/null <"$1")" -ge "$2" ] 2>/dev/null; do
        kill -0 "$3" 2>/dev/null || return
        sleep 0.02
    done
}
fit="ccld-fit shards --init-from model/diffusion.safetensors -b 2"
fit_autoencoder="ccld-fit-autoencoder --init-from model/autoencoder.safetensors --size 64 -b 2"
fit_cloob="ccld-fit-cloob --init-from model/cloob.safetensors -b 2"
start() { # RUN COMMAND...: runs a trainer whose messages go through a pipe to $reader
    : >log
    rm -rf "$1" said
    mkfifo said
    sleep 1000 <said &
    reader=$!
    "${@:2}" --steps 1000000 --log-every 1 -v -o "$1" <input 2>said &
    parent=$!
    lines "$1/metrics.jsonl" 5 $parent
}
for program in fit fit_autoencoder fit_cloob; do
    case $program in
    fit) : >input ;;
    fit_autoencoder) cp list input ;;
    fit_cloob) cp pairs.tsv input ;;
    esac
    for ranks in 1 2; do
        run=$program-$ranks
        start $run ${!program} --devices $ranks
        kill -KILL $reader
        lines $run/metrics.jsonl $(($(wc -l <$run/metrics.jsonl) + 5)) $parent && kill -INT $parent
        wait $parent
        status=$?
        [ $status = 0 ] && [ "$(step $run)" -gt 5 ] 2>>log
        ok $? "$program on $ranks ranks trains on when its messages' reader ends, and Ctrl-C leaves a checkpoint"
        start $run ${!program} --devices $ranks
        kill -HUP $parent && sleep 0.05
        kill -HUP $parent 2>/dev/null # from the shell, then from the kernel
        kill -TERM $parent 2>/dev/null # from the session
        kill -KILL $reader
        wait $parent
        status=$?
        [ $status = 0 ] && [ "$(step $run)" -ge 1 ] 2>>log
        ok $? 'a terminal that closes stops it with a checkpoint'
    done
done
for ranks in 1 2; do
    run=nohup-$ranks
    (trap '' HUP; exec $fit --devices $ranks --steps 1000000 --log-every 1 -o $run 2>said-$ranks) &
    parent=$!
    lines $run/metrics.jsonl 5 $parent
    kill -HUP $parent
    lines $run/metrics.jsonl $(($(wc -l <$run/metrics.jsonl) + 5)) $parent && kill -TERM $parent
    wait $parent
    status=$?
    [ $status = 0 ] && grep -q 'SIGTERM: stopped after step' said-$ranks
    ok $? "SIGHUP is ignored under nohup, on $ranks ranks"
done

# Limits that are reached in the middle of the work.
for ranks in 1 2; do
    $fit --devices $ranks --steps 1000000 --log-every 1 -o time-$ranks 2>messages &
    parent=$!
    lines time-$ranks/metrics.jsonl 5 $parent
    kill -XCPU $parent && kill -XCPU $parent 2>/dev/null # every second
    wait $parent
    status=$?
    [ $status = 0 ] && grep -q 'SIGXCPU: stopped after step' messages
    ok $? "a limit of CPU time stops $ranks ranks with a checkpoint"
    (ulimit -f 1000; exec $fit --devices $ranks --steps 4 --checkpoint-every 2 -o size-$ranks 2>messages)
    status=$?
    cp messages log
    [ $status = 1 ] && [ "$(grep -c 'File too large' messages)" = 3 ] && [ -s size-$ranks/metrics.jsonl ]
    ok $? "files that may not grow are an error, not a signal, on $ranks ranks"
done
(ulimit -f 100; exec $encode -q -o grown $(cat list) "$top"/tests/golden/data/images/*.* 2>log)
[ $? = 1 ] && [ "$(wc -l <log)" = 1 ] && grep -q 'File too large' log && ccld-shards -q verify grown 2>>log
ok $? 'so they are to ccld-encode, whose store remains whole'
(ulimit -f 100; exec ccld-weights convert model/cloob.safetensors -o large.pt 2>log)
[ $? = 1 ] && [ "$(wc -l <log)" = 1 ] && grep -q 'File too large' log && [ -z "$(find . -maxdepth 1 -name 'large*')" ]
ok $? 'and to ccld-weights, which leaves nothing behind'

# The encoder. A single process reads a list that stays open until it has its signal; several read all of it first.
for copy in $(seq 100); do sed "s,^images/,images/$(printf '../images/%.0s' $(seq $copy))," list; done >long-list
for devices in '' '--devices 2'; do
    for signal in HUP USR1 PIPE; do
        store=encoded${devices: -1}-$signal
        rm -f paths said
        mkfifo paths said
        sleep 1000 <said &
        reader=$!
        $encode $devices --batch-size 1 -o $store <paths 2>said &
        parent=$!
        exec 3>paths
        if [ -z "$devices" ]; then head -n 4 list >&3; else cat long-list >&3 && exec 3>&-; fi
        until [ "$(ccld-shards ls $store 2>/dev/null | wc -l)" -ge 4 ] || ! kill -0 $parent; do sleep 0.05; done
        if [ $signal != PIPE ]; then
            kill -$signal $parent
        elif kill -KILL $reader && [ -z "$devices" ]; then
            (echo nope.jpg && sed -n 5,8p list) >&3 # with a warning between
            until [ "$(ccld-shards ls $store | wc -l)" -ge 8 ] || ! kill -0 $parent; do sleep 0.05; done
            kill -TERM $parent
        else
            kill -TERM $parent # it says how many are encoded
        fi
        exec 3>&-
        wait $parent
        status=$?
        kill -KILL $reader
        [ $status = 1 ] && ccld-shards -q verify $store 2>>log
        ok $? "ccld-encode $devices ends by itself at SIG$signal"
    done
done

# Files that are written and may be read as well.
bad() { printf '%s\n' nope1.jpg "$(head -n 1 list)" nope2.jpg; }
refuses() { # REASON FILE COMMAND...: one line says why, and the file stays
    cp "$2" saved
    "${@:3}" >out 2>log </dev/null
    [ $? = 1 ] && grep -q "^ccld-[a-z]*: cannot write '$2': $1$" log && [ "$(wc -l <log)" = 1 ] && cmp -s saved "$2"
}
from() { "${@:2}" <"$1"; } # FILE COMMAND...
for devices in '' '--devices 2'; do
    n=${devices: -1}
    run="$encode -q $devices --max-failures 90"
    bad >bad
    refuses 'it is the list of paths to encode' bad from bad $run --rejects bad -o refused
    ok $? "--rejects refuses the list of paths $devices"
    for file in "$(head -n 1 list)" shards/00000.mdb model/cloob.safetensors; do
        refuses 'the file exists and is not a list of paths' "$file" from list $run --rejects "$file" -o refused
        ok $? "and $file"
    done
    cp "$GOLDEN"/images/photo420.jpg picture.jpg
    ln -sf picture.jpg link.jpg
    refuses 'it is one of the files to encode' link.jpg $run --rejects link.jpg -o refused picture.jpg
    ok $? 'and an argument by another name'
    [ ! -e refused ]
    ok $? 'before a store is made'
    bad >bad
    (sleep 0.5 && cat bad) | $run --rejects bad -o retried$n 2>log && bad | grep nope | cmp - <(sort bad) 2>>log &&
        [ "$(ccld-shards ls retried$n | wc -l)" = 1 ]
    ok $? 'a list that comes from the file through a pipe is read before it is replaced'
    bad >bad
    rm -f paths
    mkfifo paths
    $run --rejects bad -o retried$n <paths 2>log &
    parent=$!
    exec 3>paths
    cat bad >&3
    until [ -n "$devices" ] || grep -q nope1 log || ! kill -0 $parent; do sleep 0.05; done
    kill -TERM $parent
    exec 3>&-
    wait $parent
    bad | cmp - bad 2>>log
    ok $? 'and stays if the run is interrupted'
    bad >bad
    : | $run --rejects bad -o retried$n 2>log
    bad | cmp - bad 2>>log
    ok $? 'or the list is empty'
    echo nope3 >rejects && bad | $run --rejects /dev/stdout -o retried$n 2>log >>rejects
    { echo nope3 && bad | grep nope; } | sort | cmp - <(sort rejects) 2>>log
    ok $? 'rejects on standard output are appended to what is there'
    bad | $run --rejects new$n -o retried$n 2>log && bad | grep nope | cmp - <(sort new$n) 2>>log
    ok $? 'a new file has the rejects of all'
done
ln -s picture.jpg link.png
refuses 'it is one of the images of the grid' link.png ccld-grid "$(head -n 1 list)" picture.jpg -o link.png
ok $? 'ccld-grid refuses to write over one of its images'
ccld-grid -q $(head -n 2 list) -o a.png && cp a.png b.png &&
    refuses 'it is one of the images of the grid' a.png from b.png ccld-grid - a.png -o a.png
ok $? 'also among others'
cp model/cloob.safetensors weights
refuses 'it is the file to convert' weights ccld-weights convert weights --dtype f16 -o ./weights
status=$?
refuses 'it is the file to convert' weights ccld-weights convert ./weights --dtype f16 -o weights && [ $status != 0 ]
ok $? 'ccld-weights refuses to write over the file that it converts'

echo "1..$number"
[ $failed = 0 ]
