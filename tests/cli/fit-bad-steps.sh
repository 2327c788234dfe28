# With a learning rate that is far too high, non-finite steps are skipped and reported, and the last good weights stay.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
status=0
ccld-fit -q shards -o run --init-from model/diffusion.safetensors -b 4 --steps 4 --checkpoint-every 2 --log-every 1 2>/dev/null
ccld-fit -q --resume run --steps 100 --lr 1000 --max-bad-steps 3 2>err || status=$?
echo $status
grep -c 'not finite, update skipped' err
tail -n 2 err >&2
grep -c '"event":"bad-step".*"paths":\[".*"\]' run/metrics.jsonl
ls -d run/step-00000004
ccld-fit -q --resume run/step-00000004 --steps 30 -o again 2>/dev/null
grep -c '"loss":[0-9]' again/metrics.jsonl
