try() {
    status=0
    ccld-fit-cloob -q "$@" </dev/null || status=$?
    echo $status
}
try --steps 1
try -o run
try -o run --epochs 1 pairs.tsv
try -o run --nonsense
try -o run --steps 1 --lr nan
try -o run --steps 1 --betas 0.9
try -o run --steps 1 --image-size 100
try -o run --steps 1 --width 100
try -o run --steps 1 --text-width 96
try -o run --steps 1 --vocabulary 513
try -o run --steps 1 --vocabulary 49409
try -o run --steps 1 --context 2
try -o run --steps 1 --batch-size 1
try -o run --steps 1 --init-from model.pkl --width 64
try -o run --steps 1 --text-only
try -o run --steps 1 --resume run --init-from model.pkl
try --resume nowhere
try -o run --steps 1
ls run 2>/dev/null || true
