$SYNTH -q -o model
ccld-encode -q -m model --size 64 --shard-size 2 -o parts/a "$GOLDEN"/images/*.jpg
ccld-encode -q -m model --size 64 -o parts/b "$GOLDEN"/images/rgb.png "$GOLDEN"/images/gray16.png
cd parts
# ls: a column with the store, then what ls of that store prints.
ccld-shards ls a b | sed 's,	/.*/,	,'
ccld-shards ls a | sed 's/^/a	/' >expected
ccld-shards ls b | sed 's/^/b	/' >>expected
ccld-shards ls a b | cmp - expected
# stat: paragraphs that begin with the store, then what stat of that store prints, then the total.
{
    for store in a b; do
        echo "store          $store"
        ccld-shards stat $store
        echo
    done
} >expected
ccld-shards stat a b | sed '/^total/,$d' | cmp - expected
ccld-shards stat a b | awk -v RS= '$1 == "store" { print $2, $4 }'
ccld-shards stat a b | sed -n '/^total/,$p' | sed 's/^\(bytes\|latent mean\|scale factor\)\( *\).*/\1/'
cp -r a joined
cp -r b tail
ccld-shards -q join joined joined tail
ccld-shards stat a b | sed -n '/^total/,$p' | grep '^latent\|^scale\|^records\|^shards\|^bytes' >total
ccld-shards stat joined | grep '^latent mean\|^scale\|^records\|^shards\|^bytes' | cmp - total
# cat: records are counted through all stores, as in the joined store.
for i in 0 4 5 6; do
    ccld-shards cat a b $i >one
    ccld-shards cat joined $i | cmp - one
done
ccld-shards cat a b 7 || echo $?
# verify: a line per store and one for all.
ccld-shards verify a b
truncate -s 20000 b/00000.mdb
ccld-shards verify a b joined || echo $?
# A store that cannot be read does not hide the others.
ccld-shards ls nowhere a | wc -l
status=0
ccld-shards stat a b | sed -n '/^total/,/^finished/p' | grep -v ^bytes || status=$?
ccld-shards ls b a >/dev/null || echo $?
ccld-shards stat b a >/dev/null || echo $?
ccld-shards cat b a 0 || echo $?
# Stores that cannot be trained on together have no scale factor in common.
ccld-encode -q -m ../model --size 32 -o small "$GOLDEN"/images/rgb.png
ccld-shards stat a small | sed '1,/^total/d' | grep -v ^bytes
# Nor does one store count twice.
ln -s a link
for again in a link; do ccld-shards stat a small $again || echo $?; done
# A store that does not exist, though the record is in the first.
ccld-shards cat a nosuch 0 | wc -c
ccld-shards cat a 0 1 | wc -c
