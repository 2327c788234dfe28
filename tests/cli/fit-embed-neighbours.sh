# Embeddings averaged with their neighbors: training differs, and resuming it changes nothing.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
fit() { # RUN OPTION...
    ccld-fit -q shards -o "$@" --init-from model/diffusion.safetensors -b 2 --lr 1e-3 2>err || cat err
}
fit plain --steps 3
fit mixed --steps 3 --embed-neighbours 3
cmp -s plain/latest/raw.safetensors mixed/latest/raw.safetensors || echo 'other weights'
fit parts --steps 2 --embed-neighbours 3
ccld-fit -q --resume parts --steps 3 2>err || cat err
for file in diffusion raw optimizer; do
    cmp parts/latest/$file.safetensors mixed/latest/$file.safetensors && echo "$file: the same"
done
