$SYNTH -q -o model
# Shards of five, F16 embeddings, a size that is not square; the batch size does not matter.
ccld-encode -q -m model --size 64x128 --shard-size 5 --batch-size 3 --embed-dtype f16 --threads 3 -o one "$GOLDEN"/images/*.*
ccld-encode -q -m model --size 64x128 --shard-size 5 --batch-size 12 --embed-dtype f16 --threads 1 -o two "$GOLDEN"/images/*.*
ccld-shards -q verify one
ccld-shards stat one >stat
grep '^records\|^shards\|^latents\|^embeds\|^images' stat
sed -n '/^0000/s/  *\(.*\),.*/ \1/p' stat
for i in 0 4 5 11; do
    ccld-shards cat one $i >a
    ccld-shards cat two $i >b
    # On a GPU, libraries may round differently in other batch sizes.
    [ "$CCLD_DEVICE" != cpu ] || cmp a b
done
# The reference's preprocessing handles orientation and alpha differently.
ccld-encode -q -m model --size 64 --pil-compat -o pil "$GOLDEN/images/exif_orientation.jpg" "$GOLDEN/images/rgb.png"
ccld-encode -q -m model --size 64 -o display "$GOLDEN/images/exif_orientation.jpg" "$GOLDEN/images/rgb.png"
ccld-shards stat pil | grep preprocessing
ccld-shards ls pil | cut -f 3
for i in 0 1; do
    ccld-shards cat pil $i | tail -c 6000 >a
    ccld-shards cat display $i | tail -c 6000 >b
    cmp -s a b && echo same || echo differs
done
