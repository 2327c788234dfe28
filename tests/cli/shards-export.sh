# Records in tars: arrays of NumPy and their descriptions.
$SYNTH -q -o model
mkdir photos
for i in 0 1 2 3 4; do cp "$GOLDEN/images/gray.jpg" "photos/$i.jpg"; done
cp "$GOLDEN/images/rgb.png" "$(printf 'photos/\377.png')"
ccld-encode -q -m model --size 64 --shard-size 4 -o store photos
ccld-encode -q -m model --size 64 --embed-dtype f16 -o half photos/0.jpg
ccld-shards export --per-tar 4 out store
ls out
for tar in out/*.tar; do tar -tvf $tar | sed 's/ 1970.*:../ /; s/  */ /g'; done
mkdir files
cat out/*.tar | tar -C files -xif -
for i in 0 5; do
    ccld-shards cat store $i | tail -c 3264 | head -c 3072 >record # a thumbnail follows
    { tail -c 1024 files/00000000$i.moments.npy && tail -c 2048 files/00000000$i.embed.npy; } | cmp - record
    head -c 128 files/00000000$i.moments.npy | tr -c '[:print:]\n' '?'
    head -c 128 files/00000000$i.embed.npy | tr -c '[:print:]\n' '?'
    cat files/00000000$i.json
    echo
done
# The same store gives the same tars.
ccld-shards -q export --per-tar 4 again store
cmp out/00001.tar again/00001.tar
# Embeddings of 16 bits.
ccld-shards -q export f16 half
tar -xOf f16/00000.tar 000000000.embed.npy | head -c 80 | tr -c '[:print:]\n' '?'
echo
try() {
    status=0
    ccld-shards "$@" || status=$?
    echo status $status
}
try export out store
try export new nowhere
try export
try export new
at=$(grep -abo "$(printf '\050\265\057\375')" store/00001.mdb | sed -n 2p | cut -d : -f 1)
printf '@@' | dd of=store/00001.mdb bs=1 seek=$((at + 1500)) conv=notrunc 2>/dev/null
try export damaged store
tar -tf damaged/00000.tar | grep -c json
