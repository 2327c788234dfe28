# The embedding noise of training is stored with the weights and is the default for sampling.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | ccld-encode -q -m model --size 64 -o shards
printf 'a cat\n' >prompts
fit() { # RUN OPTION...
    ccld-fit -q shards -m model -o "$@" --init-from model/diffusion.safetensors -b 2 --steps 1 \
        --demo-prompts prompts 2>err || cat err
}
noise() {
    ccld-weights ls "$1" 2>err | grep embed_noise || echo none
}
sample() { # FILE OPTION...
    ccld-plms -q -m model --checkpoint "$@" --size 64 --steps 2 'a cat'
}
fit plain
fit noised --embed-noise 0.25
noise plain/latest/diffusion.safetensors
noise noised/latest/diffusion.safetensors
ccld-fit -q --resume noised --steps 2 2>err || cat err
noise noised/latest/diffusion.safetensors
ccld-weights convert noised/latest/diffusion.safetensors --dtype f16 -o half.safetensors 2>err || cat err
noise half.safetensors

sample noised/latest/diffusion.safetensors >default
sample noised/latest/diffusion.safetensors --embed-noise 0.25 | cmp - default
sample noised/latest/diffusion.safetensors --embed-noise 0 >without
cmp -s default without || echo 'it changes images'
grep -a '^# embed_noise' default without
sample plain/latest/diffusion.safetensors >default
sample plain/latest/diffusion.safetensors --embed-noise 0 | cmp - default

# Demo grids use it, too: these two have the same weights.
cmp -s plain/demo/00000000.png noised/demo/00000000.png || echo 'and demos'

# Finetuning keeps the noise and the scale of latents unless told otherwise.
tune() { # OPTION...
    rm -rf tuned
    ccld-fit shards -o tuned -b 2 --steps 1 --init-from "$@" 2>err || cat err
    grep -o 'autoencoder scale.*\|.*noise of.*\|.*the scale of.*' err
    noise tuned/latest/diffusion.safetensors
    ccld-weights ls tuned/latest/diffusion.safetensors 2>&1 | grep '^autoencoder_scale\|^scale' || true
}
tune model/diffusion.safetensors | sed "s/is 1.184[0-9]*/is 1.184/"
tune noised/latest/diffusion.safetensors | sed "s/is 1.184[0-9]*/is 1.184/"
tune noised/latest/diffusion.safetensors --embed-noise 0 --autoencoder-scale 0 | sed 's/1\.184[0-9]*/1.184/'
ccld-fit -q shards -o third -b 2 --steps 1 --init-from noised/latest/raw.safetensors --autoencoder-scale 1.2 2>err || cat err
noise third/latest/diffusion.safetensors
echo 'resumed without the file'
rm -r noised
ccld-fit --resume third --steps 2 2>err || cat err
grep -o 'autoencoder scale.*' err
noise third/latest/diffusion.safetensors
