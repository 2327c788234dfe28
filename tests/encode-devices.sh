#!/bin/bash
# ccld-encode with several processes on the CPU and on emulated GPUs: the same records as from one, whatever their
# number; processes that are stopped, killed or fail, and reruns. Prints TAP.
# usage: [BUILD=build] [KILLS=6] [SEED=n] tests/encode-devices.sh
set -u
. "$(dirname "$0")/support/apart.sh"
draw
kills=${KILLS:-6}
export CCLD_DEVICE=cpu

exec 2>stderr # where the shell reports processes that are killed
"$build/tests/synth/synth-model" -q -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 60 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
encode="ccld-encode -m $work/model --size 64"

# The records of a store: path, size of the image and a checksum of all that is stored.
records() { # STORE
    local count i
    count=$(ccld-shards ls "$1" | wc -l)
    ccld-shards ls "$1" | awk -F '\t' '{ print $(NF - 1), $NF }' >names
    for ((i = 0; i < count; i++)); do ccld-shards cat "$1" $i | cksum; done | paste names - | sort
}
same() { # STORE: has the records of one, and no path twice
    records "$1" | diff "${2:-expected}" - && ccld-shards verify "$1"
}
left() {
    pgrep -f "^ccld-encode.* -m $work/model" | grep -vx "$$"
}
gone() { # SECONDS
    local i
    for i in $(seq $(($1 * 20))); do
        [ -z "$(left)" ] && return
        sleep 0.05
    done
    left | xargs ps -o pid,stat,args -p >>log
    return 1
}

$encode -q -o one <list 2>log
records one >expected
[ "$(wc -l <expected)" = 60 ]
ok $? 'one process encodes the images'
for n in 1 2 3; do
    $encode --devices $n -o store$n <list 2>log && same store$n >>log 2>&1
    ok $? "$n processes encode the same records"
    [ "$(ls store$n/parts | wc -l)" = $n ] && [ "$(grep -c "^ccld-encode: 60 encoded, 0 skipped, 0 failed in .*; 'store$n' has 60 records" log)" = 1 ]
    ok $? 'each in a part, and report once'
    [ $n = 1 ] || for part in $(seq $n); do
        $encode -q --part $part/$n -o by-hand$n/parts/$((part - 1)) <list 2>>log
        ccld-shards ls store$n/parts/$((part - 1)) | cmp - <(ccld-shards ls by-hand$n/parts/$((part - 1))) >>log 2>&1
        ok $? "process $((part - 1)) takes what --part $part/$n takes"
    done
done
$encode --devices 2 -o arguments $(cat list) 2>log && same arguments >>log 2>&1
ok $? 'paths may be arguments'
tr '\n' '\0' <list | $encode -0 --devices 2 -o null 2>log && same null >>log 2>&1
ok $? 'or separated by NUL'
for part in 1 2; do $encode -q --part $part/2 --devices 2 -o half$part <list 2>log; done
{ records half1 && records half2; } | sort | diff expected - >>log
ok $? '--part and --devices divide the list together'

# Reruns. A changed file replaces its record, whichever process finds it.
for n in 1 2 5; do
    shuf list | $encode --devices $n -o store3 2>log && grep -q '0 encoded, 60 skipped' log && same store3 >>log 2>&1
    ok $? "a rerun with $n processes of a store in 3 parts encodes nothing"
done
$encode -o store3 <list 2>log && grep -q '0 encoded, 60 skipped' log
ok $? 'nor does one without --devices'
cp -p "$(sed -n 7p list)" kept
cp "$(sed -n 8p list)" "$(sed -n 7p list)"
for n in 2 4; do
    touch -d "@$n" "$(sed -n 7p list)"
    $encode --devices $n -o store3 <list 2>log && grep -q '1 encoded, 59 skipped' log &&
        [ "$(ccld-shards ls store3 | wc -l)" = 60 ] && ccld-shards verify store3 2>>log
    ok $? "a changed file is encoded in its old place by $n processes"
done
cp -p kept "$(sed -n 7p list)"
head -n 30 list | $encode -q --devices 3 -o grown 2>log && $encode --devices 2 -o grown <list 2>log &&
    grep -q '30 encoded, 30 skipped' log && same grown >>log 2>&1
ok $? 'a list that has grown is completed'

# Messages, rejects and status are those of all.
{ cat list && for i in 1 2 3 4 5 6; do echo "nowhere $i"; done; } | shuf >bad-list
status=0
$encode --devices 3 --rejects rejects -o bad <bad-list 2>log || status=$?
[ $status = 1 ] && grep -q 'ccld-encode: 6 of 66 files failed, more than 5%:' log && same bad >>log 2>&1
ok $? 'the status depends on what failed in all processes'
sort rejects | cmp - <(grep nowhere bad-list | sort) >>log 2>&1
ok $? 'the rejects of all are in one file'
[ "$(grep -c "^ccld-encode: \(rank [12]: \)\?cannot encode 'nowhere [1-6]': No such file" log)" = 6 ] &&
    grep -q '^ccld-encode: rank [12]: cannot' log
ok $? 'each is reported once, with the process that met it'
$encode --devices 3 --rejects rejects -o bad <list 2>log && [ ! -s rejects ]
ok $? 'a rerun without bad files empties the rejects'
for input in 'printf a\0b' true; do
    $input | $encode --devices 3 -o unread 2>log
    [ $? = 1 ] && [ "$(grep -c '^ccld-encode: ' log)" = 1 ]
    ok $? "an error that all have is printed once ($(sed -n 's/^ccld-encode: .*: //p; s/^ccld-encode: //p' log | head -n 1))"
done
ccld-encode -m nowhere --devices 3 -o never <list 2>log
[ $? = 1 ] && [ "$(grep -c '^ccld-encode: ' log)" = 1 ] && ! grep -q rank log
ok $? 'so is a model that cannot be read'
exec 3<store2/parts/1
flock 3
$encode --devices 2 -o store2 <list 2>log
[ $? = 1 ] && [ "$(cat log)" = "ccld-encode: rank 1: cannot write to store 'store2/parts/1': another program is writing to it" ]
ok $? 'a part that is in use is named'
exec 3<&-
flock store2/parts/1 sleep 0.3 &
until ! flock -n store2/parts/1 true; do sleep 0.01; done
$encode --devices 2 -o store2 <list 2>log && same store2 >>log 2>&1
ok $? 'one whose program is about to end is waited for'

# Sanitizers slow down the end of processes, and as much what they would do if they did not end.
soon=2
! nm "$build/ccld-encode" | grep -q __asan_init || soon=10
# A long list, so that there is time to interfere: 16 spellings of each path.
for i in $(seq 16); do sed "s,^images/,images/$(printf '../images/%.0s' $(seq "$i"))," list; done >long-list
$encode -q -o long-one <long-list 2>log
ccld-shards ls long-one | cut -f 2 | sort >long-expected
[ "$(wc -l <long-expected)" = 960 ]
ok $? 'a long list'
start() { # STORE PROCESSES
    $encode --batch-size 2 --devices "$2" -o "$1" <long-list 2>log &
    parent=$!
    until [ -n "$(find "$1/parts" -name 00000.mdb 2>/dev/null)" ]; do
        kill -0 $parent 2>/dev/null || return 1
        sleep 0.01
    done
    ranks=($(pgrep -P $parent))
    [ ${#ranks[@]} = "$2" ]
}
completes() { # STORE PROCESSES
    $encode --devices "$2" -o "$1" <long-list 2>>log && [ "$(ccld-shards stat "$1" | grep -c '^finished *no')" = 0 ] &&
        ccld-shards ls "$1" | awk -F '\t' '{ print $(NF - 1) }' | sort | cmp - long-expected >>log 2>&1
}
for signal in KILL ABRT; do
    start killed-$signal 3 && victim=${ranks[1]} && kill -$signal "$victim" && gone $soon
    ok $? "within $soon seconds of SIG$signal to a process, all have ended"
    wait $parent
    [ $? = 1 ] && grep -qx "ccld-encode: rank [0-2] (process $victim) was killed by SIG$signal" log
    ok $? 'and it is named'
    completes killed-$signal 3
    ok $? 'a rerun completes the store'
done
start orphaned 3 && kill -KILL $parent && gone $soon
ok $? 'processes end with their parent'
wait $parent
completes orphaned 2
ok $? 'and a rerun with another number completes the store'
for signal in TERM INT; do
    start stopped-$signal 2 && kill -$signal $parent && gone 20
    ok $? "SIG$signal ends all"
    wait $parent
    [ $? = 1 ] && [ "$(grep -c '^ccld-encode: interrupted: [0-9]* encoded' log)" = 1 ] && [ "$(wc -l <log)" = 1 ] &&
        ccld-shards verify stopped-$signal 2>log
    ok $? 'after they have stored their batches; one message says so'
    completes stopped-$signal 2
    ok $? 'a rerun completes the store'
done
start twice 2 && kill -STOP "${ranks[1]}" && kill -TERM $parent && sleep 0.3 && kill -TERM $parent && gone $soon
ok $? 'a second signal ends those that do not answer'
wait $parent
[ $? = 143 ] && completes twice 2
ok $? 'with the status of the signal; a rerun completes the store'
sound=0
for kill in $(seq "$kills"); do
    $encode --batch-size 2 --devices $((kill % 3 + 1)) -o random <long-list 2>log &
    parent=$!
    sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
    processes=($parent $(pgrep -P $parent))
    kill -KILL "${processes[RANDOM % ${#processes[@]}]}" 2>/dev/null
    gone $soon || sound=1
    wait $parent
done
ok $sound "after each of $kills kills no process is left"
completes random 2 && ccld-shards verify random 2>>log
ok $? 'and a rerun completes the store'

# Emulated GPUs, which round differently in batches of other sizes.
export CCLD_CUDA_PLUGIN=$build/tests/cuda-host/libccld-cuda-host.so CCLD_EMULATED_GPUS=3 XDG_CACHE_HOME=$work CCLD_PRECISION=fp32
head -n 12 list >short-list
encode="$encode --batch-size 1"
$encode -q --device cuda:1 -o gpu-one <short-list 2>log
records gpu-one >gpu-expected
for devices in all 2 2,0; do
    $encode -v --device auto --devices $devices -o gpu-$devices <short-list 2>log && same gpu-$devices gpu-expected >>log 2>&1 &&
        grep -q "computing on 'cuda'" log
    ok $? "--devices $devices uses emulated GPUs"
done
[ "$(ls gpu-all/parts | wc -l) $(ls gpu-2/parts | wc -l) $(ls gpu-2,0/parts | wc -l)" = '3 2 2' ]
ok $? 'one process each'

[ $failed = 0 ] || sed 's/^/# /' stderr
echo "1..$number"
exit $((failed > 0))
