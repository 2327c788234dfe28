$SYNTH -q -o model
mkdir photos
head -c 9000 "$GOLDEN/images/progressive444.jpg" >photos/a.jpg
head -c 20000 "$GOLDEN/images/rgb.png" >photos/b.png
head -c 30 "$GOLDEN/images/rgb.png" >photos/c.png
printf BM >photos/d.bmp
cp "$GOLDEN/images/small.png" photos/e.png
encode() { ccld-encode -m model --size 64 --threads 1 --max-failures 100 "$@"; }
encode -o store photos/a.jpg photos/b.png photos/e.png
encode --allow-truncated -o store photos/a.jpg photos/b.png photos/e.png
# Without pixels, or in other formats, nothing is there to encode.
encode --allow-truncated --rejects - -o store photos/c.png photos/d.bmp photos/e.png
ccld-shards ls store
# Damage that leaves all pixels needs no option.
size=$(wc -c <photos/e.png)
head -c $((size - 12)) photos/e.png >photos/f.png
encode -o ends photos/f.png
