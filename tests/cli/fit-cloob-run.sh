# Runs in one part and in several, finetuning, and what the trained network can be used for.
shapes=${SYNTH%/*}/shapes
$shapes -q -o images -n 40 --size 32 --pairs pairs.tsv
small="--image-size 16 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1
    --vocabulary 600 --embed 32"
begin="ccld-fit-cloob --threads 1 $small -b 5 --accumulate 2 --lr 3e-4 --warmup 4 --size 24 --flip --seed 3
    --holdout 7 --log-every 2 --keep 2"
$begin -o whole --steps 9 --holdout-every 3 --checkpoint-every 4 <pairs.tsv
ls whole whole/latest/ | sed 's/tfevents.*/tfevents/'
grep -o '"step":[0-9]*,\|"[a-z/-]*":\(null\)\{0,1\}' whole/metrics.jsonl | sort -u | grep -v time

echo in three parts, one of them in another folder
$begin -q -o parts --steps 2 --lr-schedule cosine <pairs.tsv
ccld-fit-cloob -q --resume parts --steps 4 --threads 1 </dev/null
ccld-fit-cloob -q --resume parts/latest -o branch --steps 5 --threads 1 </dev/null
ls -d parts/step-* branch/step-*
cmp parts/pairs.list branch/pairs.list

echo with a constant learning rate, the weights are the same, bit for bit
$begin -q -o flat --lr-schedule constant --steps 30 <pairs.tsv
$begin -q -o cut --lr-schedule constant --steps 2 <pairs.tsv
ccld-fit-cloob -q --resume cut --steps 5 --threads 1 </dev/null
ccld-fit-cloob -q --resume cut --steps 30 --threads 1 </dev/null
for file in raw cloob optimizer; do cmp flat/latest/$file.safetensors cut/latest/$file.safetensors; done
sed 's/"\(time\|images-per-second\|data-wait\)":[^,}]*,\{0,1\}//g' flat/metrics.jsonl | grep '"loss"' >a
sed 's/"\(time\|images-per-second\|data-wait\)":[^,}]*,\{0,1\}//g' cut/metrics.jsonl | grep '"loss"' >b
grep -e '"step":[24],' a >c
grep -e '"step":[24],' b | cmp c -
status=0
cmp -s flat/latest/raw.safetensors flat/latest/cloob.safetensors || status=$?
echo "raw and averaged weights differ: $status"

echo killed and resumed
$begin -q -o killed --lr-schedule constant --steps 30 --checkpoint-every 3 <pairs.tsv &
while [ ! -e killed/latest ]; do sleep 0.01; done
kill -KILL $! 2>/dev/null || true
wait $! 2>/dev/null || true
ccld-fit-cloob -q --resume killed --threads 1 </dev/null
cmp flat/latest/optimizer.safetensors killed/latest/optimizer.safetensors

echo finetuned from its weights
ccld-fit-cloob -o tuned --init-from flat/latest/cloob.safetensors -b 8 --epochs 1 --lr 1e-5 --holdout 7 --seed 3 \
    --threads 1 <pairs.tsv
grep -c '"loss"' tuned/metrics.jsonl

echo only the text tower finetuned, in two parts: image embeddings do not change
ccld-fit-cloob -o texts --init-from flat/latest/cloob.safetensors --text-only -b 8 --steps 1 --lr 1e-3 --warmup 0 \
    --lr-schedule constant --holdout 7 --seed 3 --threads 1 <pairs.tsv 2>&1 | grep 'text tower'
ccld-fit-cloob -q --resume texts --steps 3 --threads 1 </dev/null
cmp -s flat/latest/cloob.safetensors texts/latest/cloob.safetensors || echo text embeddings change
$SYNTH -q --embed 32 --unet-cond 64 -o model
for which in flat texts; do
    cut -f 1 pairs.tsv | ccld-encode -q -m model --cloob $which/latest/cloob.safetensors --size 32 -o of-$which
    for i in 0 21 39; do ccld-shards cat of-$which $i >$which-$i; done
done
for i in 0 21 39; do cmp flat-$i texts-$i; done
ccld-fit-cloob -q --resume flat --steps 31 --text-only --threads 1 </dev/null || echo $?

echo used
cut -f 1 pairs.tsv | ccld-encode -q -m model --cloob tuned/latest/cloob.safetensors --size 32 -o shards
ccld-shards ls shards | wc -l
ccld-plms -q -m model --cloob tuned/latest/cloob.safetensors --size 64 --steps 4 'a red circle' | head -c 3
