$SYNTH -q -o model
mkdir photos photos/folder.jpg
cp "$GOLDEN"/images/*.png photos
for f in gray16 gray_alpha rgb rgba; do
    head -c 3000 "$GOLDEN/images/$f.png" >"photos/truncated-$f.png"
done
head -c 9000 "$GOLDEN/images/progressive444.jpg" >photos/truncated.jpg
echo 'Dear diary' >photos/diary.jpg
: >photos/empty.png
ln -s nowhere photos/dangling.jpg
mkfifo photos/fifo.jpg
# Headers of 20,000x20,000 pixels.
printf '\211\120\116\107\015\012\032\012\000\000\000\015\111\110\104\122\000\000\116\040\000\000\116\040\010\002\000\000\000\154\022\321\156\000\001\000\000IDAT' >photos/bomb.png
printf 'P6\n20000 20000\n255\n' >photos/bomb.ppm
cp "$GOLDEN/images/photo420.jpg" photos/large.jpg

find photos ! -path photos | sort >list
status=0
ccld-encode -m model --size 64 --max-pixels 270000 --rejects rejects -o store <list || status=$?
echo status $status
cat rejects
ccld-shards ls store
ccld-shards verify store
# They are tried again; --max-failures tolerates them.
ccld-encode -m model --size 64 --max-pixels 270000 --max-failures 70 --rejects again -o store <list 2>/dev/null
cmp rejects again
# No file could be encoded.
status=0
ccld-encode -m model --size 64 --max-failures 100 -o none photos/diary.jpg || status=$?
echo status $status
