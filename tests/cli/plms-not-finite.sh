$SYNTH -q -o model
plms="ccld-plms -q --size 64 --steps 2"
# The last weight of each network is NaN.
for part in autoencoder cloob diffusion; do
    mkdir $part
    cp model/* $part
    file=$part/$part.safetensors
    printf '\377\377\377\377' | dd of=$file bs=1 seek=$(($(wc -c <$file) - 4)) conv=notrunc 2>dd
    status=0
    $plms -m $part --seed 7 --first 3 -n 2 a >stream || status=$?
    echo $status $(wc -c <stream)
done
# A damaged image tower, and a latent that is not finite from the start.
status=0
$plms -m autoencoder --init "$GOLDEN/images/gray.jpg" a >stream || status=$?
echo $status $(wc -c <stream)
