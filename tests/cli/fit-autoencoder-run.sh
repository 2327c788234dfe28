# A run from its first step to encoding with the trained autoencoder; resumed, and finetuned.
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort >list
ccld-fit-autoencoder -o run --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1 -b 2 \
    --accumulate 2 --lr 1e-3 --steps 6 --checkpoint-every 2 --keep 2 --holdout 3 --holdout-every 4 --log-every 2 \
    --demo-every 3 --demo-pictures 3 <list
ls run run/demo run/latest/ | sed 's/tfevents.*/tfevents/'
echo "first $(ccld-weights ls run/latest/autoencoder.safetensors | grep network)"
for png in run/demo/*.png; do pngtopnm $png | head -n 2 | tail -n 1; done
cmp -s run/demo/00000000.png run/demo/00000003.png || echo 'demos change with the weights'
grep -o '"step":[0-9]*,\|"[a-z/-]*":\(null\)\{0,1\}' run/metrics.jsonl | sort -u | grep -v time
tr '\0' '\n' <run/images.list | grep -c "^/.*\.\(png\|jpg\)$"
echo "resumed with other options"
ccld-fit-autoencoder --resume run --steps 8 --lr 1e-4 --flip
echo "resumed with other images, in a list with zero bytes"
head -n 9 list | tr '\n' '\0' | ccld-fit-autoencoder --resume run --steps 10 -0 -
tr '\0' '\n' <run/images.list | grep -c "^/.*\.\(png\|jpg\)$"
echo "only the decoder finetuned, at another size"
ccld-fit-autoencoder -v -o tuned --init-from run/latest/autoencoder.safetensors --decoder-only --size 16x48 -b 3 \
    --lr 1e-3 --loss l2 --steps 2 --demo-pictures 0 $(cat list) 2>&1 | grep 'decoder only'
ls tuned | sed 's/tfevents.*/tfevents/'
$SYNTH -q --embed 32 --unet-cond 64 -o model
ccld-encode -q --cloob model/cloob.safetensors --autoencoder tuned/latest/autoencoder.safetensors --size 32 \
    -o shards <list && ls shards
