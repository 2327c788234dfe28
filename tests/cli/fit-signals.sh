# The first signal ends a run with a checkpoint; the second one ends the program immediately.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
begin() {
    rm -rf run
    ccld-fit shards -o run --init-from model/diffusion.safetensors -b 2 --log-every 1 2>err &
    fit=$!
    until grep -q '"loss"' run/metrics.jsonl 2>/dev/null; do
        kill -0 $fit
        sleep 0.02
    done
}
finish() {
    status=0
    wait $fit || status=$?
}
begin
kill -USR1 $fit
finish
echo $status
tail -n 1 err >&2
ls run/latest/
begin
# Both signals arrive together.
kill -STOP $fit
kill -TERM $fit
kill -INT $fit
kill -CONT $fit
finish
test $status = 130 || test $status = 143
ls run | sed 's/tfevents.*/tfevents/'
