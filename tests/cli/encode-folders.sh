# A folder stands for the images below it, in the order of their names; what is no image is counted.
$SYNTH -q -o model
mkdir -p 'my photos'/b/.thumbnails 'my photos/a' empty
cp "$GOLDEN/images/rgb.png" 'my photos/b/2.png'
cp "$GOLDEN/images/gray.jpg" 'my photos/a/10.jpg'
cp "$GOLDEN/images/gray.jpg" 'my photos/a/9.jpg'
cp "$GOLDEN/images/gray.jpg" 'my photos/b/.thumbnails/2.jpg'
cp "$GOLDEN/images/gray.jpg" 'my photos/.hidden.jpg'
ln -s a 'my photos/link'
ln -s .. 'my photos/b/loop'
ln -s 2.png 'my photos/b/3.png'
for i in 1 2 3; do echo "note $i" >"my photos/a/note $i.txt"; done
head -c 3000 "$GOLDEN/images/rgba.png" >'my photos/c.png'
encode() {
    status=0
    ccld-encode -m model --size 64 -o store "$@" || status=$?
    echo status $status
}
encode --rejects rejects --rejects-reasons --max-failures 25 'my photos'
cat rejects
ccld-shards ls store
# One spelling of a path is as good as another.
encode --max-failures 25 './/my photos/./' './my photos/a/9.jpg' "$PWD/my photos/../empty" empty
(cd 'my photos' && printf 'x\nb//2.png\n' | ccld-encode -m ../model --size 64 --max-failures 50 -o ../other)
(cd 'my photos' && ccld-encode -m ../model --size 64 -o ../other ./b/2.png b/2.png)
ccld-shards ls other
# In a list, a folder is a mistake.
echo 'my photos' | ccld-encode -m model --size 64 -o third || true
encode empty
mkdir links
for i in 1 2 3; do ln -s "../my photos/b/2.png" "links/$i.png"; done
encode links
encode links 'my photos/b'
encode links links/2.png
status=0
ccld-fit-autoencoder -q -o run links || status=$?
echo status $status
