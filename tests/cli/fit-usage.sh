$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | ccld-encode -q -m model --size 64 -o shards
try() {
    status=0
    ccld-fit -q "$@" || status=$?
    echo $status
}
try shards
try -o run
try shards -o run --nonsense
try shards -o run --lr nan
try shards -o run --uncond-prob 1.1
try shards -o run --embed-noise -0.1
try shards -o run --embed-neighbours 8193
try shards -o run --betas 0.9
try shards -o run --betas 0.9,1
try shards -o run --channel-multipliers 4,4,8
try shards -o run --channel-multipliers 4,4,8,8.5
try shards -o run --base-channels 40
try shards -o run --lr-schedule cosine
try shards -o run --lr-schedule linear
try shards -o run --log-every 0
try shards -o run --init-from model/diffusion.safetensors --base-channels 64
try shards -o run --device cpu --precision fp16 --steps 1 --batch-size 4 --holdout 0
try shards -o run --holdout 0 --holdout-every 3 --demo-every 2
try shards -o run --demo-grid 2
try shards -o run -m model
try shards -o run --cloob model/cloob.safetensors
try shards -o run --holdout-every 3
try shards --resume nowhere
try shards -o run --resume run --init-from model/diffusion.safetensors
ls -d model shards run 2>/dev/null || true
