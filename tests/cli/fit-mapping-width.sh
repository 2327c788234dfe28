# The width of the U-Net's mapping network: set for a new run, then stored in its checkpoints.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
width() {
    ccld-weights ls $1/latest/diffusion.safetensors 2>/dev/null |
        grep -o '[0-9x]* *\(mapping.1.main.0.weight\|net.0.main.2.layer.weight\)' | tr -s ' '
}
sizes="--base-channels 16 --channel-multipliers 4,4,4,4"
fit() {
    ccld-fit -q "$@" 2>err || { echo "status $?"; cat err; }
}
fit shards -o run $sizes --mapping-width 48 -b 2 --steps 1
width run
fit --resume run --mapping-width 48 --steps 2
fit --resume run --mapping-width 64 --steps 3
fit --resume run --steps 3
width run
fit shards -o tuned --init-from run/latest/diffusion.safetensors -b 2 --steps 1
width tuned
fit shards -o other --init-from run/latest/diffusion.safetensors --mapping-width 48
fit shards -o standard $sizes -b 2 --steps 1
width standard
fit shards -o none --mapping-width 0
ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --size 64 --steps 4 'a cat' | head -c 3
