# Records are removed by paths, by indices and by lines of ls; damaged ones are found.
$SYNTH -q -o model
mkdir photos
for i in 0 1 2 3 4 5 6 7 8 9; do cp "$GOLDEN/images/gray.jpg" "photos/$i.jpg"; done
cp "$GOLDEN/images/rgb.png" 'photos/a	tab
and a line.png'
find photos -type f -print0 | LC_ALL=C sort -z | ccld-encode -q -0 -m model --size 64 --shard-size 4 -o store
ccld-shards ls store
ccld-shards ls --json store | tail -n 2
ccld-shards ls -0 store | tail -z -n 1 | od -c | head -n 2
try() {
    status=0
    ccld-shards "$@" store || status=$?
    echo status $status
}
cp -r store before
printf 'photos/3.jpg\n0\n7\n' | try remove
ccld-shards ls store | cut -f 2
ccld-shards verify store
ccld-shards ls store | tail -n 2 | try remove
ccld-shards ls -0 before | tail -z -n 1 | ccld-shards remove -0 before
ccld-shards ls before | sed -n 3,4p | try remove
printf 'photos/3.jpg\n99\nphotos/5.jpg\n-1\n' | try remove
ccld-shards ls -0 store | sed -z 's/.*\t\(.*\)\t.*/\1/' | head -z -n 1 | try remove -0
ccld-shards ls store | cut -f 2
try remove <store/00000.mdb
: | try remove
ccld-shards stat store | grep records
# What was removed is encoded again.
ccld-encode -q -m model --size 64 --shard-size 4 -o store photos
ccld-shards verify store

echo a damaged record
at=$(grep -abo "$(printf '\050\265\057\375')" store/00001.mdb | sed -n 2p | cut -d : -f 1)
printf '@@' | dd of=store/00001.mdb bs=1 seek=$((at + 1500)) conv=notrunc 2>/dev/null
try ls --json 2>/dev/null | grep damaged
try repair
try repair
ccld-shards verify store

echo a store in parts
rm -r store
ccld-encode -q --devices 2 --device cpu -m model --size 64 -o store photos/[0-5].jpg
printf 'photos/1.jpg\nphotos/2.jpg\n5\n' | try remove
ccld-shards ls store | wc -l
ccld-shards -q verify store
