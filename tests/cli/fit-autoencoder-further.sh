# LPIPS and a discriminator: a run that is stopped and resumed ends with the same bytes.
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort >list
further="--perceptual $CASES/../unit/golden/reconstruction.safetensors --disc-start 2 --disc-channels 8 --disc-lr 1e-4"
small="--base-channels 32 --channel-multipliers 1,2 --blocks 1 -b 2 --demo-pictures 0"
ccld-fit-autoencoder -o run --size 32 $small --lr 1e-3 $further --accumulate 2 --steps 5 --log-every 1 --holdout 3 <list
ls run/latest/
ccld-weights ls run/latest/discriminator.safetensors | grep '^network'
grep -o '"\(loss\|discriminator\|holdout\)[a-z/-]*":\(null\)\{0,1\}' run/metrics.jsonl | sort | uniq -c
ccld-fit-autoencoder -q -o again --size 32 $small --lr 1e-3 $further --accumulate 2 --steps 3 --holdout 3 <list
ccld-fit-autoencoder -q --resume again --steps 5
for f in run/latest/*.safetensors; do cmp $f again/latest/${f##*/}; done
echo "resumed with --disc-start -1, it keeps the discriminator but does not use it"
ccld-fit-autoencoder -q --resume again --disc-start -1 --steps 6
discriminator() {
    tr -d '\n\t ' <again/step-0000000$1/state.json | grep -o '"name":"discriminator[^}]*\|"discriminator":{[^}]*'
}
[ "$(discriminator 5)" = "$(discriminator 6)" ] || echo another discriminator
discriminator 6 | wc -l
grep '"step":6,.*"loss":' again/metrics.jsonl | grep -c discriminator || true
echo "the discriminator changes the autoencoder, and images that are too small for it are refused"
ccld-fit-autoencoder -q -o without --size 32 $small --lr 1e-3 $further --disc-start 9 \
    --accumulate 2 --steps 5 --holdout 3 <list
cmp -s run/latest/raw.safetensors without/latest/raw.safetensors || echo other weights
status=0; ccld-fit-autoencoder -o small --size 16 $small $further --steps 1 <list || status=$?; echo $status
status=0; ccld-fit-autoencoder -o small --size 32 $small --perceptual run/latest/raw.safetensors --steps 1 <list || status=$?
echo $status
status=0; ccld-fit-autoencoder -o small --size 32 $small --perceptual nosuch --steps 1 <list || status=$?; echo $status
