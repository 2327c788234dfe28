shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 20 --pairs pairs
cut -f 1 pairs | sort >list
for n in 000003 000007 000012; do cp drawn/$n.png drawn/$n-copy.png; done
cp drawn/000003.png 'drawn/000003	again.png'
pngtopnm drawn/000005.png 2>/dev/null | pamscale 2 2>/dev/null | pnmtopng 2>/dev/null >drawn/000005-large.png
pngtopnm drawn/000008.png 2>/dev/null | pamflip -lr 2>/dev/null | pnmtojpeg -quality 50 2>/dev/null >drawn/000008-mirror.jpg
ccld-encode -q -o store drawn
find="ccld-find -q --duplicates"
# Groups; the order of a folder is that of its names.
$find 0 store
$find 1.3 store | cut -f 1,3
$find 1.3 --json store | grep mirrored | sed 's/"distance":[0-9.]*/"distance":D/'
$find 1.3 --no-mirrored store | grep -c 000008 || true
$find 0.002 --by embeddings store | cut -f 1,3
$find 0 -0 store | tr '\0' '\n' | wc -l
$find 0 --json store | head -n 2
$find 0 --no-cache store | wc -l
# Everything is within these of the first record.
$find 255 store | tail -n +2 | cut -f 1 | uniq -c | sed 's/^ *//'
$find 2 --by embeddings store | tail -n +2 | cut -f 1 | uniq -c | sed 's/^ *//'
# What is to be removed, of which nothing is left then.
$find 1.3 --to-remove store
ccld-find -v --duplicates 1.3 --to-remove store 2>log | ccld-shards remove store
grep repeat log
$find 1.3 store
ccld-shards -q verify store
# Several stores and stores in parts.
head -n 4 list | ccld-encode -q -o other
$find 0 other store
$find 0 --to-remove other store
ccld-encode -q --devices 2 --device cpu -o parts <list
$find 0 --to-remove parts other | cut -f 2
# The command line.
try() {
    status=0
    ccld-find -q "$@" || status=$?
    echo $status
}
try --duplicates 0.1 store circle
try --duplicates 0.1 --image a.png store
try --duplicates 0.1 -k 4 store
try --duplicates 300 store
try --duplicates 3 --by embeddings store
try --duplicates 0.1 --by embeddings --no-mirrored store
try --no-mirrored store circle
try --by images store circle
try --duplicates 0.1 --above 0 store
try --duplicates 0.1
