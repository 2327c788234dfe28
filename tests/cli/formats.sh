# What is read depends on the build; the first five formats need no library of their own.
for program in ccld-encode ccld-fit-autoencoder ccld-fit-cloob ccld-grid ccld-plms ccld-score; do
    $program --version | sed -n 's/^formats: JPEG PNG WebP PNM BMP.*/'$program': formats/p'
done
$SYNTH -q -o model
ccld-encode -v -m model --size 64 --device cpu -o store "$GOLDEN/formats/animated.webp" "$GOLDEN/formats/rle8.bmp" 2>&1 |
    sed -n 's/.*formats.\(.*: only.*\)/\1/p; s/ in .*//; s/^ccld-encode: \(2 encoded\)/\1/p'
ccld-grid -o grid.png "$GOLDEN/formats/animated.webp" "$GOLDEN/formats/animated.webp"
ccld-grid -v -o again.png "$GOLDEN/formats/animated.webp" "$GOLDEN/formats/animated.webp" 2>&1 | sed 's/.*formats.//'
cmp grid.png again.png
# Without the library, the message names the package.
for format in gif tif heic avif jxl; do
    ccld-grid -o x.png "$GOLDEN"/formats/*.$format 2>&1 | sed -n 's/.*: built without \([A-Z XL]*: needs lib[a-z]*-dev and a rebuild\)$/\1/p' >>lacking
done
set -- $(ccld-encode --version | sed -n 's/^formats: //p')
lacking=$(wc -l <lacking)
[ $(($# + lacking)) = 10 ] || echo "$# formats and $lacking messages about others"
