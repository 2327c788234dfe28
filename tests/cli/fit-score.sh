shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 40 --pairs pairs
cut -f 1 pairs >list
models=$(cd "${SYNTH%/*}/../.." && pwd)/models/small
ccld-encode -q -m "$models" -o store <list
fit="ccld-fit -q"
first="--base-channels 16 --channel-multipliers 4,4,4,4 --mapping-width 64 -b 4 --lr 1e-3 --holdout 8 --holdout-every 0"
score="--score-images 6 -m $models"
scores() {
    grep '"score/' $1/metrics.jsonl | sed 's/"time":[0-9.]*,//'
}
# Each checkpoint is scored; the best one is kept, too.
$fit store -o run $first --checkpoint-every 2 --keep 1 --steps 5 $score
scores run | sed 's/:[-0-9.e]*\([,}]\)/:X\1/2g'
best=$(for i in 2 4 5; do scores run | grep "\"step\":$i,"; done | sed 's/.*"step":\([0-9]*\).*kernel":\([-0-9.e]*\).*/\2 \1/' |
    sort -g | head -n 1 | cut -d ' ' -f 2)
[ "$(readlink run/best)" = step-0000000$best ] && echo "the lowest kernel distance"
ls -d run/step-* | wc -l | awk -v best=$best '{ print ($1 == (best == 5 ? 1 : 2) ? "kept, and the last one" : $0) }'
# In two parts, on another number of threads, the scores and the weights are the same.
$fit store -o parts $first --checkpoint-every 2 --keep 1 --steps 4 $score
$fit --resume parts --steps 5 --threads 1
scores run >a
scores parts | cmp - a && echo "the same scores"
cmp run/latest/raw.safetensors parts/latest/raw.safetensors
[ "$(readlink parts/best)" = "$(readlink run/best)" ] && echo "the same best"
# Scoring takes no part in training.
$fit store -o without $first --checkpoint-every 2 --keep 1 --steps 5
cmp run/latest/raw.safetensors without/latest/raw.safetensors
# What a kill has interrupted is scored when the run is resumed.
cp run/latest/score.json kept.json
rm run/latest/score.json
ccld-fit --resume run 2>&1 | grep "step 5: cos" | sed "s/[-0-9.]*[0-9]/N/g; s/; the best.*//"
cmp kept.json run/latest/score.json && [ "$(readlink run/best)" = "$(readlink parts/best)" ] && echo "scored again"
# At steps of their own, which have checkpoints.
$fit store -o every $first --checkpoint-every 4 --score-every 3 --steps 7 $score
scores every | cut -d , -f 1
ls -d every/step-*
# A run stands for its best checkpoint, or for its last one.
cp -r every ranked
ln -sfn step-00000003 ranked/best
ccld-plms -q -m ranked --autoencoder "$models/autoencoder.safetensors" --cloob "$models/cloob.safetensors" --steps 2 'a red star' >a
ccld-plms -q -m "$models" --checkpoint ranked/step-00000003 --steps 2 'a red star' >b
tail -c 12288 a >c
tail -c 12288 b | cmp - c
ccld-plms -q -m "$models" --checkpoint ranked --steps 2 'a red star' | tail -c 12288 | cmp - c
rm ranked/best
ccld-plms -q -m "$models" --checkpoint ranked --steps 2 'a red star' | tail -c 12288 >b
ccld-plms -q -m "$models" --checkpoint ranked/step-00000007 --steps 2 'a red star' | tail -c 12288 | cmp - b
# Another CLOOB than the data's is an error, unless it is allowed.
$SYNTH -q -o other --embed 128
ccld-weights -q convert other/cloob.safetensors --dtype f16 -o other.safetensors
try() {
    status=0
    "$@" >out || status=$?
    echo $status $(wc -c <out)
}
try ccld-plms -q -m "$models" --checkpoint every --cloob other.safetensors --steps 2 'a red star'
try ccld-plms -q -m "$models" --checkpoint every --cloob other.safetensors --steps 2 --allow-other-models 'a red star'
try $fit store -o x $first --steps 2 --score-images 6 -m "$models" --cloob other.safetensors
# Scores need networks that are named, and enough held-out images.
try $fit store -o x $first --steps 2 --score-images 6
try $fit store -o x $first --steps 2 --score-images 5 -m "$models"
try $fit store -o x $first --steps 2 --score-every 5
try $fit store -o x $first --steps 2 --score-images 9 -m "$models"
