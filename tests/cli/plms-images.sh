$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
said() {
    grep -a '^# \(prompt\|guidance\)=' stream
}
cp "$GOLDEN/images/rgb.png" "$GOLDEN/images/gray.jpg" .
cp rgb.png odd:name
# Alone, with a weight, repeated, with texts and with every line; a suffix that is not a number belongs to the name.
$plms --images rgb.png >stream
said
$plms --images rgb.png:2 </dev/null >stream
said
$plms --images odd:name >stream
said
$plms --images rgb.png:2 --images ./gray.jpg 'a cat:4' >both
cp both stream
said
printf 'a cat:4\na dog\n' | $plms --images rgb.png:2 --images ./gray.jpg >stream
said
head -c $(wc -c <both) stream | cmp - both
# Without the @, the name of a file is text, and a warning says so; not of a folder, nor of what is scored.
mkdir somewhere
echo text >a
$plms ./gray.jpg:2 somewhere a gray.jpg/ @gray.jpg '\@gray.jpg' >stream
said
ccld-score -q -m model stream | cut -f 6
$plms gray.jpg | ccld-score -q -m model | cut -f 6
# Their contents matter.
$plms --images rgb.png | tail -c 12288 >one
$plms --images gray.jpg | tail -c 12288 >two
cmp -s one two && echo "two images make the same picture"
# Reads 16 bits, CMYK, palettes, orientation and image streams.
for i in gray16.png cmyk.jpg palette_trns.png exif_orientation.jpg small.png; do
    $plms --images "$GOLDEN/images/$i" | pamfile -machine
done
try() {
    status=0
    $plms "$@" >stream || status=$?
    echo $status $(wc -c <stream)
}
mkdir folder
: >empty
head -c 3000 gray.jpg >torn.jpg
echo 'no image' >text
for i in nosuch folder empty text '' ':3' rgb.png:1e7; do
    try --images "$i" a
done
# A truncated image is rejected.
try --images torn.jpg a
