shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 40 --pairs pairs
cut -f 1 pairs | sort >list
head -n 30 list | ccld-encode -q -o store
find="ccld-find -q store circle"
$find --no-cache >expected
ls -A store
$find | cmp - expected
ls -A store
cp store/.embeddings before
$find | cmp - expected
cmp store/.embeddings before
# Other programs do not mind it.
ccld-shards -q verify store
ccld-shards stat store | grep records
# Damaged, foreign, of another state of the store.
notes() {
    ccld-find -v store circle 2>&1 >got | grep embeddings || true
}
notes
printf x | dd of=store/.embeddings bs=1 seek=1000 conv=notrunc 2>/dev/null
notes
cmp got expected
notes
echo nonsense >store/.embeddings
notes
cmp got expected
cmp store/.embeddings before
ccld-encode -q -o store <list
notes
ccld-find -q --no-cache store circle | cmp - got
notes
# Removed records are not in it, and where it cannot be written it is left out.
ccld-shards ls store | head -n 3 | ccld-shards remove -q store
[ -e store/.embeddings ] || echo deleted
mkdir store/.embeddings
notes
ccld-find -q --no-cache store circle | cmp - got
rmdir store/.embeddings
# A damaged record is reported and left out, and nothing is cached.
at=$(grep -abo "$(printf '\050\265\057\375')" store/00000.mdb | sed -n 2p | cut -d : -f 1)
printf '@@' | dd of=store/00000.mdb bs=1 seek=$((at + 500)) conv=notrunc 2>/dev/null
status=0; ccld-find -q store circle -k 100 >got || status=$?
echo status $status, $(wc -l <got) records
[ ! -e store/.embeddings ] || echo cached
