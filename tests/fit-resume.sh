#!/bin/bash
# ccld-fit is killed with SIGKILL and stopped by signals, and resumed: the weights must equal those of an
# uninterrupted run, bit for bit, in the middle of an epoch and with accumulation. Prints TAP.
# usage: [BUILD=build] [KILLS=12] [SEED=n] tests/fit-resume.sh
set -u
. "$(dirname "$0")/support/apart.sh"
draw
kills=${KILLS:-12}

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
list=/dev/null trained=diffusion
. "$top/tests/support/resume.sh"

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

for signal in TERM INT USR1; do stops_at $signal; done
killed_often "$kills"

echo "1..$number"
exit $((failed > 0))
