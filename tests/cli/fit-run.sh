# A run from its first step to sampling, then resumed.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
printf 'a cat\n\nred:2\na blue sky\n' >prompts
ccld-fit shards -o run -m model --init-from model/diffusion.safetensors --autoencoder-scale 0 -b 2 --accumulate 2 --steps 5 \
    --checkpoint-every 2 --keep 2 --holdout 3 --holdout-every 2 --log-every 2 --demo-prompts prompts \
    --demo-every 4 --demo-grid 2
ls run run/demo run/latest/ | sed 's/tfevents.*/tfevents/'
echo "first $(ccld-weights ls run/latest/diffusion.safetensors | grep network)"
for png in run/demo/*.png; do pngtopnm $png | head -n 2 | tail -n 1; done
cmp -s run/demo/00000000.png run/demo/00000004.png || echo 'demos change with the weights'
grep -o '"step":[0-9]*,\|"[a-z/-]*[1-4]*":\(null\)\{0,1\}' run/metrics.jsonl | sort -u | grep -v time
grep -o '"demo.*' run/metrics.jsonl
echo "resumed with other options"
ccld-fit --resume run --steps 9 --lr 3e-6 --demo-grid 3 --threads 1
echo "resumed with --epochs"
ccld-fit --resume run --epochs 6 --threads 1
ls run/demo
ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --size 64 --steps 4 'a cat' | head -c 3
echo
ccld-fit -q shards -o tuned --init-from run/latest/diffusion.safetensors -b 4 --epochs 1 2>&1 | wc -l
grep -c '"loss"' tuned/metrics.jsonl
ls tuned/latest/
