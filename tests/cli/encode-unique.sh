# --unique leaves out images whose bytes are in the store, or came before, also in archives.
$SYNTH -q -o model
mkdir photos more
cp "$GOLDEN/images/gray.jpg" photos/1.jpg
cp "$GOLDEN/images/photo420.jpg" photos/2.jpg
cp photos/1.jpg photos/3.jpg
cp photos/2.jpg more/4.jpg
cp "$GOLDEN/images/rgb.png" more/5.png
cp more/5.png more/6.png
echo 'not an image' >more/7.jpg
cp more/7.jpg more/8.jpg
tar --sort=name --mtime=2020-01-01 -cf more.tar more
encode() {
    status=0
    ccld-encode -m model --size 64 --unique "$@" || status=$?
    echo status $status
}
encode -o store photos
ccld-shards ls store
# A rerun reads what was left out again. Hashes are kept without --unique, too.
encode -o store photos
ccld-encode -m model --size 64 -o plain photos/2.jpg photos/3.jpg
encode -o plain photos
ccld-shards ls --json plain
# In an archive, with -v; bad files are no duplicates.
encode -v -o store more.tar 2>err
grep -e 'left out' -e encoded err >&2
encode --max-failures 60 --rejects rejects -o store more/7.jpg more/8.jpg more/6.png 2>/dev/null
cat rejects
ccld-shards ls store | cut -f 2
ccld-shards verify store
# A record that has been removed, or a file that has changed, lets the others in.
echo photos/1.jpg | ccld-shards remove store
encode -o store photos/3.jpg
cp more/5.png photos/2.jpg
encode -o store photos/2.jpg photos/1.jpg more/4.jpg
ccld-shards ls store | cut -f 2
ccld-shards verify store
ccld-shards stat store | grep format
# Several processes compare with each other.
for i in $(seq 40); do cp "$GOLDEN/images/palette_trns.png" more/a$i.png; done
encode -o parts --devices 3 --device cpu photos more/*.png
encode -o parts --devices 2 --device cpu photos more/*.png 2>/dev/null
encode -o parts photos more/*.png
ccld-shards ls --json parts | grep -o '"hash":.*"' | sort | uniq -d
