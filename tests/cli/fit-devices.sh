# Two ranks on the CPU end in the same weights as one with twice the micro-batches; another number fits or is refused.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
fit="ccld-fit --device cpu --threads 2 shards --init-from model/diffusion.safetensors --autoencoder-scale 0 -b 1 --holdout 2 --seed 7"
$fit -q -o one --accumulate 2 --steps 3
$fit -o two --devices 2 --steps 2
ccld-fit --resume two --steps 3
for file in raw diffusion optimizer; do cmp one/latest/$file.safetensors two/latest/$file.safetensors; done
ccld-fit --resume one --devices 3 --steps 4 || echo $?
$fit --devices 0 -o never || echo $?
$fit --devices two -o never || echo $?
