find "$GOLDEN"/images -maxdepth 1 -name '*.*' >list
try() {
    status=0
    ccld-fit-autoencoder -q "$@" <list || status=$?
    echo $status
}
try
try -o run --nonsense
try -o run --size 0
try -o run --kl-weight -1
try -o run --loss l3
try -o run --betas 0.9
try -o run --base-channels 48
try -o run --channel-multipliers 1,2,3,4,5,6,7,8,9
try -o run --channel-multipliers 1,,2
try -o run --channel-multipliers 1,0
try -o run --decoder-only
try -o run --init-from nowhere --blocks 2
try -o run --lr-schedule cosine
try -o run --perceptual-weight 2
try -o run --disc-lr 1e-4
try --resume nowhere
try -o run --init-from nowhere
ls -d list run 2>/dev/null || true
