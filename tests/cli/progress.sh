command -v script >/dev/null || { echo "needs script(1)"; exit 77; }
$SYNTH -q -o model
printf '%s\n' "$GOLDEN"/images/*.png >list
fit="ccld-fit --base-channels 32 -b 2 --steps 3 shards"
# Without a terminal, lines in an interval: 0 for none, and none with -q.
export CCLD_PROGRESS=0.0001
ccld-encode -m model --size 64 -o shards <list 2>err
sed 's/[0-9][0-9.]*/N/g' err | grep -o 'ccld-encode: encoding: N of N images, ' | sort -u
ccld-plms -m model --size 64 --steps 2 a 2>err >stream
sed 's/[0-9][0-9.]*/N/g' err | grep -o 'ccld-plms: sampling: N of N evaluations, ' | sort -u
$fit -o run 2>err
sed 's/[0-9][0-9.]*/N/g' err | grep -o 'ccld-fit: loss N, step N of N, epoch N, N images/s' | sort -u
$fit -q -o quiet 2>err
grep 'loss [0-9.]*, step' err || echo "no lines"
CCLD_PROGRESS=0 $fit -o none 2>err
grep 'loss [0-9.]*, step' err || echo "no lines"
# On a terminal of 80 columns, the loss comes first.
for end in '--steps 3' '--steps 0 --epochs 3'; do
    rm -rf run
    script -q -e -c "stty cols 80; TERM=xterm $fit $end -o run" /dev/null </dev/null >typescript
    tr '\r' '\n' <typescript | sed 's/^.\[K//' | grep -a '^loss ' >drawn
    awk 'length > 79' drawn
    sed 's/[0-9][0-9.]*/N/g' drawn | grep -o 'loss N, step N of N, epoch N, N images/s' | sort -u
done
# A run without an end says so, once at the start and in its lines; overfitting is told once per run.
rm -rf run
CCLD_PROGRESS=0.0001 ccld-fit --base-channels 32 -b 2 shards -o run 2>err &
until grep -q overfit err && [ "$(sed '1,/overfit/d' err | grep -c 'no end set')" -gt 20 ]; do
    kill -0 $!
    sleep 0.05
done
kill -TERM $!
wait $! || true
grep -c 'has no end' err
grep -o 'loss [0-9.]*, step [0-9]*, epoch [0-9]*, [0-9.]* images/s, no end set' err | sed 's/[0-9][0-9.]*/N/g' | sort -u
grep -c overfit err
CCLD_PROGRESS=0 ccld-fit --resume run --steps 1 2>err
grep overfit err || echo "not again"
CCLD_PROGRESS=0 ccld-fit --resume run -o other --steps 1 2>err
grep -c overfit err
# Options about devices and arithmetic are only those of programs that compute; the others do not look at their variables.
for program in ccld-grid ccld-weights; do
    $program --help | grep -e --device -e --threads -e --precision -e --tf32 || echo "$program has none"
    status=0; $program --tf32 2>err || status=$?
    echo $status $(head -n 1 err)
done
CCLD_PROGRESS=0 CCLD_DEVICE=tpu CCLD_PRECISION=fp8 ccld-weights -q ls model/cloob.safetensors >/dev/null && echo read
# The number of evaluations is right from the first line on.
script -q -e -c "TERM=xterm ccld-plms -m model --size 64 'a cat' -o image.png" /dev/null </dev/null >typescript
tr '\r' '\n' <typescript | grep -a -o 'of [0-9]* evaluations' | sort -u
