$SYNTH -q -o model
mkdir photos
cp "$GOLDEN"/images/*.jpg photos
find photos -type f | sort >list
ccld-encode -m model --size 64 -o store <list
ccld-encode -m model --size 64 -o store <list
# Half of another list is in the store already; one of those files has changed.
cp "$GOLDEN/images/gray16.png" photos/z.png
cp "$GOLDEN/images/rgb.png" photos/gray.jpg
find photos -type f | sort | ccld-encode -m model --size 64 --batch-size 2 -o store
ccld-shards ls store
ccld-shards verify store
# A file listed twice is encoded once.
ccld-encode -m model --size 64 -o other photos/z.png photos/z.png photos/z.png
