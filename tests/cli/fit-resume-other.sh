# A run of one training program is no run of another, and each says whose it is.
$SYNTH -q --embed 32 --unet-cond 64 -o model
shapes=${SYNTH%/*}/shapes
$shapes -q -o images -n 4 --size 32 >pairs.tsv
ccld-encode -q -m model --size 64 -o store images
train="-q --threads 1 --device cpu -b 2 --steps 1"
ccld-fit $train -o diffusion --init-from model/diffusion.safetensors --autoencoder-scale 1 store 2>/dev/null
ccld-fit-autoencoder $train -o autoencoder --size 16 --base-channels 32 --channel-multipliers 1,1 --blocks 1 images
ccld-fit-cloob $train -o cloob --init-from model/cloob.safetensors images
for program in ccld-fit ccld-fit-autoencoder ccld-fit-cloob; do
    for run in diffusion autoencoder cloob/latest; do
        status=0
        $program --resume $run -q || status=$?
        echo $program $run $status
    done
done
