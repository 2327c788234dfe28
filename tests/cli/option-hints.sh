# What an unknown option may mean: names of other projects, and misspelled ones.
try() {
    status=0
    "$@" </dev/null 2>errors >out || status=$?
    echo "$status $(sed -n 1p errors)"
}
for option in --cfg --cfg_scale --sampler --num-gpus --batch_size --width --height -W --Steps --stpes --guid --vae --ckpt \
    --num-inference-steps --prompt --negative-prompt --config --fp16 --output-dir --nosuch -y; do
    try ccld-plms "$option" 1 x
done
# An option that begins with the name comes first.
try ccld-plms --image x.jpg
try ccld-find --images x.jpg
try ccld-fit --clip 1 shards
try ccld-fit --checkpoint x.ckpt shards
for option in --learning-rate --learning_rate=1 --num-gpus --max-steps --pretrained --grad-accum --checkpoint-evry --yaml; do
    try ccld-fit "$option" 1 shards
done
try ccld-encode --batch_size 4 -o store
try ccld-encode --workers=4 -o store
try ccld-encode -output store
try ccld-encode -output=store
try ccld-fit-autoencoder --resolution 64 -o run
try ccld-fit-cloob --resolution 64 -o run
try ccld-fit-cloob --bs 64 -o run
try ccld-grid --cols 4
try ccld-weights --fp16 ls x
try ccld-weights --gpu 1 ls x
ccld-grid -h | sed -n 1p
ccld-grid --help >long
ccld-grid -h | cmp - long
