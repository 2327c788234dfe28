$SYNTH -q -o model
mkdir photos
cp "$GOLDEN/images/gray.jpg" 'photos/a
line.jpg'
cp "$GOLDEN/images/gray.jpg" 'photos/ space .jpg'
echo text >'photos/b
ad.jpg'
find photos -type f -print0 | sort -z |
    ccld-encode -q -0 -m model --size 64 --max-failures 40 --rejects rejects -o store 2>/dev/null
ccld-shards ls store
tr '\0' '@' <rejects
echo
# The rejects file is a list itself.
cp "$GOLDEN/images/small.png" 'photos/b
ad.jpg'
ccld-encode -q -0 -m model --size 64 -o store <rejects
ccld-shards ls store | tail -n 1
find photos -type f -print0 | ccld-encode -m model --size 64 -o store
