#!/bin/bash
# ccld-fit-autoencoder is killed with SIGKILL and stopped by a signal, and resumed: the weights must equal
# those of an uninterrupted run, bit for bit. One file of the list is unreadable. Prints TAP.
# usage: [BUILD=build] [KILLS=6] [SEED=n] tests/fit-autoencoder-resume.sh
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
kills=${KILLS:-6}
RANDOM=${SEED:-$$}
echo "# SEED=${SEED:-$$}"
export PATH="$build:$PATH" LC_ALL=C

work=$(mktemp -d) || exit 2
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 2

. "$top/tests/support/tap.sh"

mkdir photos
images=("$top"/tests/golden/data/images/*.*)
for i in $(seq 100 121); do
    image=${images[$((i % ${#images[@]}))]}
    cp "$image" "photos/$i.${image##*.}"
done
head -c 300 photos/105.* >cut && cp cut "$(ls photos/105.*)"
find photos -type f | sort >list

# 19 training images make two and a half steps.
steps=7
fit="ccld-fit-autoencoder -q --threads 2"
begin="$fit --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1 --seed 7 -b 4 --accumulate 2 \
    --lr 1e-3 --warmup 3 --clip-grad 1 --flip --holdout 3 --holdout-every 4 --steps $steps --log-every 1 \
    --demo-every 4 --demo-pictures 3"
last=step-$(printf %08d $steps)

same() { # RUN [OTHER]
    local other=${2:-whole} at=${2:+latest}
    for file in raw autoencoder optimizer; do
        cmp "$other/${at:-$last}/$file.safetensors" "$1/${at:-$last}/$file.safetensors" || return 1
    done
}
# Makes two steps more of a run that was stopped or killed somewhere, and `ends` of another at once: they must be the same.
resumes() { # RUN
    local at=$(readlink "$1/latest")
    ends=$((10#${at#step-} + 2))
    rm -rf straight
    $begin --steps $ends -o straight <list 2>log && $fit --resume "$1" --steps $ends 2>>log && same "$1" straight >>log 2>&1
}
# The log without times.
logged() { # RUN
    sed 's/"\(time\|images-per-second\|data-wait\|unreadable\)":[^,}]*,\{0,1\}//g' "$1/metrics.jsonl"
}

$begin -o whole <list 2>log
ok $? 'an uninterrupted run'
[ "$(grep -c '"loss":' whole/metrics.jsonl)" = $steps ] && [ "$(grep -c '"holdout-psnr/ema":' whole/metrics.jsonl)" = 3 ] &&
    [ "$(ls whole/demo | tr '\n' ' ')" = '00000000.png 00000004.png ' ]
ok $? 'every step is logged, held-out images are evaluated, and demo grids are made'
[ "$(grep -c "cannot read '.*105\..*skipping it" log)" = 1 ]
ok $? 'the unreadable file is reported once'

$begin -o again - <list 2>log && same again >>log 2>&1
ok $? 'the same command gives the same weights, bit for bit'

$begin -o parts --steps 2 <list 2>log && $fit --resume parts --steps 5 2>>log </dev/null &&
    $fit --resume parts/latest --steps $steps 2>>log && same parts >>log 2>&1
ok $? 'so does a run in three parts, without the list'
logged whole >a && logged parts | grep -v '"step":\(2\|5\),.*holdout' | diff - a >log
ok $? 'with the same metrics along the way'
for step in 00000000 00000004; do cmp whole/demo/$step.png parts/demo/$step.png || break; done >log 2>&1
ok $? 'and the same demo grids'
$fit --resume whole/latest -o branch --steps $((steps + 1)) 2>log && $fit --resume branch --steps $((steps + 2)) 2>>log
ok $? 'a run resumes in another folder, which then has the list'

$begin --steps 1000000 -o signalled <list 2>log &
fitting=$!
until [ -s signalled/metrics.jsonl ] && grep -q '"loss":' signalled/metrics.jsonl; do
    kill -0 $fitting 2>/dev/null || break
    sleep 0.02
done
kill -TERM $fitting
wait $fitting
status=$?
[ $status = 0 ] && [ -e signalled/latest/state.json ]
ok $? "SIGTERM leaves a checkpoint ($(readlink signalled/latest)), status $status"
resumes signalled
ok $? 'from which the run resumes to the same weights'

$begin -o killed --checkpoint-every 1 --keep 2 --steps 1 <list 2>log
ok $? 'a run with a checkpoint at every step starts'
begun=$(date +%s%N)
$fit --resume killed --steps 2 2>log
took=$((($(date +%s%N) - begun) / 1000)) # microseconds to start and take a step
died=0
for kill in $(seq "$kills"); do
    $fit --resume killed --steps 1000000 2>log &
    fitting=$!
    micro=$((took / 2 + took * (RANDOM * 32768 + RANDOM) / 1073741824))
    sleep "$((micro / 1000000)).$(printf %06d $((micro % 1000000)))"
    kill -KILL $fitting 2>/dev/null
    wait $fitting 2>/dev/null
    [ $? = 137 ] && died=$((died + 1))
done
[ $died = "$kills" ]
ok $? "killed $died times, finally at $(readlink killed/latest)"
resumes killed
ok $? 'the run resumes to the same weights'
[ "$(ls -d killed/step-* | wc -l)" = 2 ] &&
    [ -z "$(ls -A killed | grep -v '^\(step-\|latest$\|metrics\|events\|demo\|images\.list$\)')" ]
ok $? 'two checkpoints are kept, and incomplete ones are gone'

$fit --init-from whole/latest/autoencoder.safetensors --decoder-only --size 32 -b 4 --lr 1e-3 --steps 4 \
    -o tuned <list 2>log
$fit --resume tuned --steps 6 2>>log
$fit --init-from whole/latest/autoencoder.safetensors --decoder-only --size 32 -b 4 --lr 1e-3 --steps 6 \
    -o once <list 2>>log
for file in raw autoencoder optimizer; do
    cmp {tuned,once}/step-00000006/$file.safetensors || break
done >>log 2>&1
ok $? 'the decoder alone is finetuned to the same weights in two parts as in one'

echo "1..$number"
exit $((failed > 0))
