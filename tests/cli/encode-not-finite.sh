$SYNTH -q -o model
# Every weight of the autoencoder is NaN: all bytes after the header are 0xff.
cd model
size=$(wc -c <autoencoder.safetensors)
header=$(od -A n -t u8 -N 8 autoencoder.safetensors)
head -c $((8 + header)) autoencoder.safetensors >autoencoder.ckpt
head -c $((size - 8 - header)) /dev/zero | tr '\0' '\377' >>autoencoder.ckpt
rm autoencoder.safetensors
cd ..
ccld-encode -q -m model --size 64 --max-failures 100 --rejects rejects -o store "$GOLDEN/images/gray.jpg" || echo $?
grep -c gray.jpg rejects
ls store
