try() {
    status=0
    ccld-grid -q "$@" >sheet || status=$?
    echo $status $(wc -c <sheet)
}
printf 'P5 2 1 255\n\001\002' >a.pgm
printf 'P6\n# seed=1\n2 1 255\nabcdef' >b.ppm
printf 'P5 3 1 255\n\001\002\003' >wide.pgm
cat a.pgm b.ppm wide.pgm >three
cp "$GOLDEN/images/small.png" .
head -c 1000 small.png >torn.png
: >empty
mkdir folder
# A different size is reported with the number of the image and its file.
try a.pgm wide.pgm
try a.pgm three
try <three
try small.png a.pgm
# No images.
try
try empty
try nosuch
try folder
try torn.png
# Streams that are truncated or contain something else.
head -c 12 a.pgm | try
cat a.pgm b.ppm | head -c 35 | try
printf 'P5 2 1' | try
{ cat a.pgm; echo something else; } | try
printf 'P5 2 1 0\n\001\002' | try
printf 'P5 2 1 65536\n\001\002' | try
printf 'P5 0 1 255\n' | try
printf 'P5 99999999999 1 255\n' | try
printf 'P5 60000 60000 255\n' | try
printf 'P7\nWIDTH 1\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nENDHDR\n12345' | try
# One bad file fails the whole grid.
try a.pgm nosuch
try --max-pixels 1 a.pgm
try --max-pixels 2 a.pgm
# A grid that is too large for PNG.
yes "$(cat a.pgm)" | head -n 430000 >many
try --padding 10000 --columns 215000 many
