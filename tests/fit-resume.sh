#!/bin/bash
# ccld-fit is killed with SIGKILL and stopped by signals, and resumed: the weights must equal those of an
# uninterrupted run, bit for bit, in the middle of an epoch and with accumulation. Prints TAP.
# usage: [BUILD=build] [KILLS=12] [SEED=n] tests/fit-resume.sh
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$(cd "$top" && cd "${BUILD:-build}" && pwd) || exit 2
kills=${KILLS:-12}
RANDOM=${SEED:-$$}
echo "# SEED=${SEED:-$$}"
export PATH="$build:$PATH" LC_ALL=C
unset CCLD_MODEL

work=$(mktemp -d) || exit 2
trap 'kill -KILL $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 2

. "$top/tests/support/tap.sh"

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o model || exit 2
mkdir photos
images=("$top"/tests/golden/data/images/*.*)
for i in $(seq 100 139); do
    image=${images[$((i % ${#images[@]}))]}
    cp "$image" "photos/$i.${image##*.}"
done
find photos -type f | sort | ccld-encode -q -m model --size 64 -o shards 2>log || exit 2

# 36 training images make four and a half steps: epochs end in the middle of a batch.
steps=14
fit="ccld-fit -q --threads 2"
begin="$fit shards --init-from model/diffusion.safetensors --seed 7 -b 4 --accumulate 2 --lr 1e-3 \
    --warmup 5 --holdout 4 --holdout-every 4 --steps $steps --log-every 1"
last=step-$(printf %08d $steps)

same() { # RUN [OTHER]
    local other=${2:-whole} at=${2:+latest}
    for file in raw diffusion optimizer; do
        cmp "$other/${at:-$last}/$file.safetensors" "$1/${at:-$last}/$file.safetensors" || return 1
    done
}
# Makes two steps more of a run that was stopped or killed somewhere, and `ends` of another at once: they must be the same.
resumes() { # RUN
    local at=$(readlink "$1/latest")
    ends=$((10#${at#step-} + 2))
    rm -rf straight
    $begin --steps $ends -o straight 2>log && $fit --resume "$1" --steps $ends 2>>log && same "$1" straight >>log 2>&1
}
# The log without times.
logged() { # RUN
    sed 's/"\(time\|images-per-second\|data-wait\)":[^,}]*,\{0,1\}//g' "$1/metrics.jsonl"
}

$begin -o whole 2>log
ok $? 'an uninterrupted run'
[ "$(grep -c '"loss":' whole/metrics.jsonl)" = $steps ] && [ "$(readlink whole/latest)" = $last ]
ok $? 'every step is logged, and latest points to the last checkpoint'
cmp -s model/diffusion.safetensors whole/$last/raw.safetensors
[ $? = 1 ]
ok $? 'the weights have changed'

$begin -o again 2>log && same again >>log 2>&1
ok $? 'the same command gives the same weights, bit for bit'

$begin -o parts --steps 5 2>log && $fit --resume parts --steps 11 2>>log &&
    $fit --resume parts/latest --steps $steps 2>>log && same parts >>log 2>&1
ok $? 'so does a run in three parts'
logged whole >a && logged parts | grep -v '"step":\(5\|11\),.*holdout' | diff - a >log
ok $? 'with the same metrics along the way'

$fit --resume parts 2>log && [ "$(ls parts | grep -c step-)" = 3 ]
ok $? 'resuming a finished run does nothing'

# Stops a run without end with each signal as soon as it has logged a step.
for signal in TERM INT USR1; do
    rm -rf signalled
    $begin --steps 1000000 -o signalled 2>log &
    fitting=$!
    until [ -s signalled/metrics.jsonl ] && grep -q '"loss":' signalled/metrics.jsonl; do
        kill -0 $fitting 2>/dev/null || break
        sleep 0.02
    done
    kill -$signal $fitting
    wait $fitting
    status=$?
    [ $status = 0 ] && [ -e signalled/latest/state.json ]
    ok $? "SIG$signal leaves a checkpoint ($(readlink signalled/latest)), status $status"
    resumes signalled
    ok $? 'from which the run resumes to the same weights'
done

# Killed at random moments, mostly while it writes checkpoints.
$begin -o killed --checkpoint-every 1 --keep 2 --steps 1 2>log
ok $? 'a run with a checkpoint at every step starts'
begun=$(date +%s%N)
$fit --resume killed --steps 2 2>log
took=$((($(date +%s%N) - begun) / 1000)) # microseconds to start and take a step
died=0 sound=0
for kill in $(seq "$kills"); do
    $fit --resume killed --steps 1000000 2>log &
    fitting=$!
    micro=$((took / 2 + 2 * took * (RANDOM * 32768 + RANDOM) / 1073741824))
    sleep "$((micro / 1000000)).$(printf %06d $((micro % 1000000)))"
    kill -KILL $fitting 2>/dev/null
    wait $fitting 2>/dev/null
    [ $? = 137 ] && died=$((died + 1))
    for file in diffusion raw optimizer; do
        [ $file = optimizer ] || ccld-weights ls killed/latest/$file.safetensors >log 2>&1 || sound=1
        [ -s killed/latest/$file.safetensors ] || sound=1
    done
    [ $sound = 0 ] || break
done
[ $died = "$kills" ] || sound=1
ok $sound "after each of $died kills there is a valid checkpoint, the last one $(readlink killed/latest)"
resumes killed
ok $? 'the run resumes to the same weights'
[ "$(ls -d killed/step-* | wc -l)" = 2 ] && [ -z "$(ls -A killed | grep -v '^\(step-\|latest$\|metrics\|events\|demo\)')" ]
ok $? 'two checkpoints are kept, and incomplete ones are gone'
[ "$(grep -o '"step":[0-9]*,.*"loss":' killed/metrics.jsonl | sed 's/,.*//' | sort | uniq -d | wc -l)" = 0 ] &&
    [ "$(grep -c '"loss":' killed/metrics.jsonl)" = $ends ]
ok $? 'and every step is logged exactly once'

echo "1..$number"
exit $((failed > 0))
