# A U-Net's file knows the encoders of its data: others of the same shape are refused, other decoders and types are not.
$SYNTH -q --embed 32 --unet-cond 64 -o model
$SYNTH -q --embed 32 --unet-cond 64 --seed 2 -o other
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort | head -n 4 >list
sed 's/$/\ta cat/' list >pairs
small="--base-channels 16 --channel-multipliers 4,4,4,4 -b 2 --steps 1"
ccld-encode -q -m model --size 64 -o shards <list
ccld-encode -q -m other --size 64 -o others <list
ccld-fit shards -q -o run $small 2>/dev/null
unet=run/latest/diffusion.safetensors
ccld-weights ls $unet 2>/dev/null | grep 'metadata.*\(autoencoder\|cloob\)' | sed 's/F32:.*/HASH/' | sort
sample() { ccld-plms -q -m model --checkpoint $unet --steps 1 "$@" "a cat" >image || echo $?; }
sample
sample --autoencoder other/autoencoder.safetensors
sample --cloob other/cloob.safetensors
ccld-weights convert -q --dtype f16 other/autoencoder.safetensors -o half.safetensors
ccld-weights convert -q --dtype f16 $unet -o unet.safetensors
unet=unet.safetensors sample --autoencoder other/autoencoder.safetensors
echo a file without hashes, another type, another decoder, another text tower
ccld-plms -q -m model --autoencoder other/autoencoder.safetensors --size 64 --steps 1 "a cat" >image
sample --autoencoder half.safetensors
ccld-fit-autoencoder -q -o decoder --init-from model/autoencoder.safetensors --decoder-only --size 64 -b 2 --steps 1 <list
sample --autoencoder decoder/latest/autoencoder.safetensors
ccld-fit-cloob -q -o text --init-from model/cloob.safetensors --text-only --lr 0.01 -b 2 --steps 1 <pairs
sample --cloob text/latest/cloob.safetensors
ccld-encode -q -m model --cloob text/latest/cloob.safetensors --size 64 -o shards <list
echo finetuning
ccld-fit others -q -o tuned --init-from $unet -b 2 --steps 1 || echo $?
ccld-fit others -q -o tuned --init-from $unet -b 2 --steps 1 --autoencoder-scale 0 2>/dev/null
ccld-fit others -q --resume run --steps 2 || echo $?
