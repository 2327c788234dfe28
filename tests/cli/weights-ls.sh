c=$GOLDEN/checkpoints
# Containers with the same tensors differ in the first line only.
ccld-weights ls "$c/lightning.ckpt" >zip
ccld-weights ls "$c/legacy.ckpt" >legacy
ccld-weights -q ls "$c/kl-f8.zip" >nested
head -n 8 zip
grep odd zip
for f in zip legacy nested; do
    sed -n 1p $f
    sed 1d $f >$f.rest
done
cmp zip.rest legacy.rest
cmp zip.rest nested.rest
ccld-weights -q ls "$c/bare.pth" | sed -n '1,5p'
ccld-weights -q ls "$c/cloob_tiny_protocol2.pkl" | sed -n '1,7p'
# A pickle that tries to run a program.
ccld-weights ls "$c/hostile.ckpt"
ccld-weights ls "$c/hostile.pkl" || echo $?
ls /tmp/ccld-pickle-ran 2>/dev/null || echo nothing was run
ccld-weights ls "$c/bare.pth" >/dev/full || echo $?
# The folder of a run or checkpoint stands for its network's file; that of a model has several.
mkdir run
$SYNTH -q -o synthetic
cp synthetic/diffusion.safetensors run
ccld-weights -q ls run | sed -n 2p
ccld-weights -q ls synthetic || echo $?
mkdir empty
ccld-weights -q ls empty || echo $?
