$SYNTH -q -o model
set -- "$GOLDEN"/images/*.jpg
cp "$GOLDEN/images/rgb.png" photo.png
ccld-encode -q -m model --size 64 --shard-size 3 -o store "$1" "$2" "$3" "$4" photo.png "$5"
ccld-shards verify store
# Damage the middle of the frame of the second record in the second shard.
at=$(grep -abo "$(printf '\050\265\057\375')" store/00001.mdb | sed -n 2p | cut -d : -f 1)
cp store/00001.mdb good
printf '@@' | dd of=store/00001.mdb bs=1 seek=$((at + 1500)) conv=notrunc 2>/dev/null
ccld-shards verify store || echo $?
ccld-shards ls store 2>/dev/null | cut -f 3
status=0
ccld-shards cat store 4 >record || status=$?
echo $status
wc -c <record
touch -d '2 days ago' photo.png
ccld-encode -q -m model --size 64 -o store "$(ccld-shards ls store 2>/dev/null | awk -F '\t' '$3 == "damaged" {print $2}')"
ccld-shards verify store
cp good store/00001.mdb
ccld-shards -q verify store
truncate -s 20000 store/00001.mdb
ccld-shards verify store || echo $?
ccld-encode -q -m model --size 64 -o store "$GOLDEN/images/gray16.png" || echo $?
cp good store/00001.mdb
echo more >store/notes.txt
ccld-shards verify store || echo $?
ccld-shards ls store | wc -l
