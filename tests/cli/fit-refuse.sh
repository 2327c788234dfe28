# Data, weights and options that do not fit together are refused before training.
$SYNTH -q --embed 32 --unet-cond 64 -o model
$SYNTH -q --embed 32 --unet-cond 64 --seed 2 -o other
$SYNTH -q --embed 48 --unet-cond 64 -o wide
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort >list
for model in model other wide; do ccld-encode -q -m $model --size 64 -o $model.shards <list; done
ccld-encode -q -m model --size 32 -o small.shards <list
try() {
    status=0
    ccld-fit -q "$@" 2>err || status=$?
    grep -v 'likely to overfit' err >&2 || true
    echo $status
}
first="--init-from model/diffusion.safetensors --autoencoder-scale 0 -b 2 --steps 2"
try nowhere -o run $first
try model.shards other.shards -o run $first
try model.shards -o run $first -b 13
try model.shards -o run $first --holdout 12
try wide.shards -o run $first
try small.shards -o run $first
try model.shards -o run $first --init-from list
try model.shards -o run $first --init-from model/cloob.safetensors
echo the same records twice
ln -s model.shards link
mkdir hard
ln model.shards/*.mdb hard
mkdir -p divided/parts
cp -R model.shards divided/parts/0
try model.shards model.shards/ -o run $first
try model.shards model.shards -o run $first
try other.shards model.shards link -o run $first
try model.shards hard -o run $first
try divided divided/parts/0 -o run $first
echo "a cat" >prompts
cp "$(command -v ccld-fit)" alone
status=0
./alone -q model.shards -o run $first --demo-prompts prompts 2>err || status=$?
grep -v 'likely to overfit' err >&2 || true
echo $status
try model.shards -o run $first --demo-prompts prompts -m other
try model.shards -o run $first --demo-prompts nowhere -m model
: >empty
try model.shards -o run $first --demo-prompts empty -m model
echo a folder with other files
mkdir photos begun
cp "$GOLDEN/images/gray.jpg" photos
touch begun/.hidden
try model.shards -o model.shards $first
try model.shards -o photos $first
ls photos
ls model.shards
try model.shards -o begun $first
rm -r begun/step* begun/latest
try model.shards -o begun $first
echo an existing run
rm -rf run
try model.shards -o run $first
try model.shards -o run $first
try model.shards -o run/step-00000002/raw.safetensors $first
try --resume run other.shards --steps 4
try --resume run wide.shards --steps 4
try --resume run nowhere --steps 4
try --resume run --base-channels 32 --steps 4
try --resume run/step-00000001 --steps 4
try --resume run --steps 4
try --resume run/step-00000002 --steps 6
try --resume run/step-00000002 --steps 6 -o branch
try --resume run/step-00000002 --steps 6 -o branch
ls -d run/step-* branch/step-*
# Damaged checkpoints are refused.
for file in raw diffusion optimizer; do
    cp -R run damaged
    dd if=/dev/zero of=damaged/latest/$file.safetensors bs=64 seek=5000 count=1 conv=notrunc status=none
    try --resume damaged --steps 8
    rm -r damaged
done
cp -R run damaged
for file in raw diffusion; do
    sed -i 's/"autoencoder_scale":{"dtype":"F32"/"autoencoder_scale":{"dtype":"F92"/' damaged/latest/$file.safetensors
    try --resume damaged --steps 8
    cp run/latest/$file.safetensors damaged/latest
done
head -c 1000 run/latest/state.json >damaged/latest/state.json
try --resume damaged --steps 8
for change in 's/"seed":.*/"seed": "7",/' 's/"loss_scale":.*/"loss_scale": 0,/' 's/"autoencoder_scale":.*/"autoencoder_scale": 0,/'; do
    sed "$change" run/latest/state.json >damaged/latest/state.json
    try --resume damaged --steps 8
done
# Without its hash, as older programs wrote it, it can be read, and edited on purpose.
sed '/^\t"hash":/d' run/latest/state.json | tr -d '\n' | sed 's/,}$/}/' >damaged/latest/state.json
try --resume damaged --steps 8
