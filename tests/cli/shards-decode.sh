# Records as images: what the autoencoder gives back.
$SYNTH -q -o model
cp "$GOLDEN/images/gray.jpg" "$GOLDEN/images/rgb.png" .
ccld-encode -q -m model --size 64 -o store gray.jpg rgb.png
ccld-shards -q -m model decode store 1 0 1 >images.ppm
grep -a '^# ' images.ppm
ccld-grid -q --columns 3 -o grid.png images.ppm
tail -c 12288 images.ppm >third
head -c "$(($(wc -c <images.ppm) / 3))" images.ppm | tail -c 12288 | cmp - third
$SYNTH -q --seed 7 -o other
try() {
    status=0
    ccld-shards -q "$@" >out || status=$?
    echo status $status
}
try -m other decode store 0
try -m model decode store 2
try -m model decode store 0 -1
try -m nowhere decode store 0
try -m model decode nowhere 0
try -m model decode store
