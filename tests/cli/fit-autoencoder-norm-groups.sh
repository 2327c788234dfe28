# The number of norm groups stays with the weights when they are resumed, converted or finetuned, and changes the loss.
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort >list
small="--size 32 -b 2 --demo-pictures 0 --holdout 3"
ccld-fit-autoencoder -q -o run $small --base-channels 32 --channel-multipliers 1,2 --blocks 1 --norm-groups 8 --steps 2 <list
ccld-fit-autoencoder -q --resume run --steps 3
ccld-weights ls run/latest/autoencoder.safetensors 2>/dev/null | grep 'groups'
ccld-weights convert run/latest/raw.safetensors -q --as torch -o eight.ckpt
ccld-weights convert eight.ckpt -q --dtype f16 -o half.safetensors
ccld-weights ls half.safetensors 2>/dev/null | grep 'groups'
echo files without a number of groups have 32
for n in 8 32; do
    ccld-fit-autoencoder -q -o from$n $small --base-channels 32 --channel-multipliers 1,2 --blocks 1 --norm-groups $n --steps 1 <list
    ccld-weights ls from$n/latest/raw.safetensors 2>/dev/null | grep -c 'groups' || true
done
loss() { grep -o '"holdout-loss/raw":[0-9.]*' "$1"/metrics.jsonl | head -1; }
[ -n "$(loss from8)" ] && [ "$(loss from8)" != "$(loss from32)" ] || echo the same loss
ccld-fit-autoencoder -q -o finetuned $small --init-from eight.ckpt --steps 1 <list
ccld-weights ls finetuned/latest/raw.safetensors 2>/dev/null | grep 'groups'
echo refused
status=0; ccld-fit-autoencoder -o no $small --base-channels 32 --norm-groups 12 --steps 1 <list || status=$?; echo $status
status=0; ccld-fit-autoencoder --resume run --norm-groups 4 --steps 9 || status=$?; echo $status
