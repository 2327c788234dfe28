# Metadata that convert sets and removes, and what ccld-plms takes from it.
$SYNTH -q -o model
convert() {
    ccld-weights -q convert "$@"
}
entries() {
    ccld-weights -q ls "$1" | grep '^metadata'
}
mkdir new
cp model/autoencoder.safetensors model/cloob.safetensors new
convert model/diffusion.safetensors -o new/diffusion.safetensors --metadata guidance_start=0.5 --metadata 'a=b=c' --metadata a=d
entries new/diffusion.safetensors
sample() {
    ccld-plms -q --size 64 --steps 4 --method ddim a "$@" | sed '/^# \(guidance_start\|model\)/d'
}
sample -m model --guidance-start 0.5 >expected
sample -m new | cmp - expected
sample -m model >always
sample -m new --guidance-start 1 | cmp - always
cmp -s always expected || echo they differ
ccld-plms -q -m new --size 64 --steps 4 a | grep -a '^# guidance_start'
# What is no timestep counts as nothing.
for value in 2 x -1 nan; do
    convert new/diffusion.safetensors -o odd.safetensors --metadata "guidance_start=$value"
    sample -m model --checkpoint odd.safetensors | cmp - always
done
convert new/diffusion.safetensors -o less.safetensors --metadata guidance_start= --metadata a= --metadata format=x
entries less.safetensors
convert new/diffusion.safetensors -o x.ckpt --metadata a=b || echo $?
convert new/diffusion.safetensors -o x.safetensors --metadata a || echo $?
convert new/diffusion.safetensors -o x.safetensors --metadata =a || echo $?
ls
# A torch checkpoint cannot hold it.
convert new/diffusion.safetensors -o x.ckpt
convert x.ckpt -o y.ckpt
