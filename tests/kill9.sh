#!/bin/bash
# ccld-encode is killed with SIGKILL at random moments. After each kill the store must verify and hold
# the beginning of the list; a rerun encodes the rest. Prints TAP.
# usage: [BUILD=build] [KILLS=25] [SEED=n] tests/kill9.sh
set -u
. "$(dirname "$0")/support/apart.sh"
draw
kills=${KILLS:-25}
"$build/tests/synth/synth-model" -q -o model || exit 2

mkdir photos
images=("$top"/tests/golden/data/images/*.*)
for i in $(seq 1000 1239); do
    image=${images[$((i % ${#images[@]}))]}
    cp "$image" "photos/$i.${image##*.}"
done
find photos -type f | sort >list

encode="ccld-encode -q -m model --size 32 --batch-size 4 --shard-size 60 -o"

# Whether the records' paths are the first ones of the list.
is_beginning() { # STORE
    ccld-shards ls "$1" | cut -f 2 >have && head -n "$(wc -l <have)" list | cmp - have
}

begin=$(date +%s%N)
$encode whole <list 2>log
ok $? 'an uninterrupted run'
took=$((($(date +%s%N) - begin) / 1000)) # microseconds

$encode beside <list 2>/dev/null &
encoder=$!
result=0 times=0
while kill -0 $encoder 2>/dev/null; do
    [ -e beside/00000.mdb ] || continue
    ccld-shards -q verify beside >log 2>&1 || { result=1 && break; }
    times=$((times + 1))
done
wait $encoder
ok $result "a store verifies at any time while it is written ($times checks)"

killed=0 records=0 lost=0
for kill in $(seq "$kills"); do
    $encode store <list 2>log &
    encoder=$!
    # At most a fifth of a whole run, so that it takes several kills to get through the list.
    micro=$((took * (RANDOM * 32768 + RANDOM) / 1073741824 / 5))
    sleep "$((micro / 1000000)).$(printf %06d $((micro % 1000000)))"
    kill -KILL $encoder 2>/dev/null
    wait $encoder 2>/dev/null
    [ $? = 137 ] && killed=$((killed + 1))
    [ -e store/00000.mdb ] || continue
    ccld-shards -q verify store >log 2>&1 && is_beginning store >>log 2>&1
    result=$?
    count=$(wc -l <have)
    [ "$count" -lt "$records" ] && lost=1
    records=$count
    if [ "$result" != 0 ] || [ "$lost" != 0 ]; then
        ok 1 "kill $kill after $micro us: $count records"
        break
    fi
    # A complete store leaves nothing to interrupt.
    [ "$count" = "$(wc -l <list)" ] && rm -rf store && records=0
done
: >log
[ "$killed" -gt $((kills / 2)) ]
ok $? "the encoder was killed $killed times and always left the beginning of the list"

$encode store <list 2>log && ccld-shards -q verify store >>log 2>&1
ok $? 'a rerun encodes the rest'
ccld-shards ls store | cut -f 2 | cmp - list >log 2>&1
ok $? 'every path is in the store once, in order'
same=0
for i in 0 1 59 60 61 119 120 200 239; do
    ccld-shards cat store $i >a 2>log && ccld-shards cat whole $i >b 2>>log && cmp a b >>log 2>&1 || same=1
done
ok $same 'records equal those of the uninterrupted run'
ccld-shards stat store | grep -v '\.mdb \|^bytes' >a 2>log
ccld-shards stat whole | grep -v '\.mdb \|^bytes' | cmp - a >log 2>&1
ok $? 'so do statistics and everything else that stat prints'

# While replacing records: each is old or new, never a mixture.
$encode store <list 2>log
for file in photos/1[01]*; do touch -d '2001-01-01' "$file"; done
$encode store <list 2>log &
encoder=$!
micro=$((took / 6))
sleep "$((micro / 1000000)).$(printf %06d $((micro % 1000000)))"
kill -KILL $encoder 2>/dev/null
wait $encoder 2>/dev/null
ccld-shards -q verify store >log 2>&1 && ccld-shards ls store | cut -f 2 | cmp - list >>log 2>&1
ok $? 'the store verifies after a kill while changed files replace their records'
$encode store <list 2>log && ccld-shards -q verify store >>log 2>&1
ok $? 'and a rerun completes it'
echo "1..$number"
exit $((failed > 0))
