$SYNTH -q -o model
cp "$GOLDEN/images/gray.jpg" good.jpg
cp "$GOLDEN/images/gray.jpg" secret.jpg
mkdir closed
cp "$GOLDEN/images/gray.jpg" closed/hidden.jpg
chmod 000 secret.jpg closed
if [ -r secret.jpg ]; then
    echo 'this user may read everything'
    exit 77
fi
ccld-encode -q -m model --size 64 --rejects rejects -o store good.jpg secret.jpg closed/hidden.jpg || echo status $?
cat rejects
ccld-shards ls store
