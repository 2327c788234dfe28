#!/bin/bash
# ccld-fit-autoencoder is killed with SIGKILL and stopped by a signal, and resumed: the weights must equal
# those of an uninterrupted run, bit for bit. One file of the list is unreadable. Prints TAP.
# usage: [BUILD=build] [KILLS=6] [SEED=n] tests/fit-autoencoder-resume.sh
set -u
. "$(dirname "$0")/support/apart.sh"
draw
kills=${KILLS:-6}

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
list=list trained=autoencoder
. "$top/tests/support/resume.sh"

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

stops_at TERM
killed_often "$kills"

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
