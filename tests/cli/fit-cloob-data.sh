# Lists of pairs with missing, empty, unreadable or overlong entries.
shapes=${SYNTH%/*}/shapes
$shapes -q -o images -n 12 --size 32 --pairs pairs.tsv
small="--image-size 32 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1
    --vocabulary 600 --embed 32 --threads 1"
try() {
    status=0
    ccld-fit-cloob "$@" $small 2>err || status=$?
    grep -v 'computing on\|images/s' err | sort >&2
    echo $status
}
try -o few --steps 1 -b 16 <pairs.tsv
try -o few --steps 1 -b 2 --holdout 12 <pairs.tsv
ls -d few 2>/dev/null || true

echo captions in files next to the images: one is missing, one is empty
rm images/000003.txt
mv images/000004.txt images/000004.png.txt
printf ' \n' >images/000005.txt
ls images/*.png | try -o beside --steps 1 -b 4
try -o folder --steps 1 -b 4 images
cp images/000003.png images/plain
mv images/000006.png images/000006.webp
echo no caption >images/README
try -o folder2 --steps 1 -b 4 images
mv images/000006.webp images/000006.png
rm images/plain images/README
tr '\0' '\n' <beside/pairs.list | sed 's:.*/images/::' | head -n 8

echo arguments that name nothing
try -o none --steps 1 -b 4 nowhere images
ls -d none 2>/dev/null || true

echo missing files and files that are not images: others replace them
sed 's:000001.png:nowhere.png:' pairs.tsv >list
echo not an image >images/000007.png
try -o holes --epochs 1 --seed 1 -b 5 --warmup 0 <list
tr -d '\t' <holes/latest/state.json | grep '^"images"\|^"bad_steps"'

echo nothing but missing files
printf 'a\tb\nc\td\n' | try -o none --steps 1 -b 2

echo captions that are too long
sed 's:$: and a small purple heptagon far away from it in the corner of the garden, behind the old apple trees of my grandmother, who has planted them herself:' pairs.tsv |
    grep -v 000007 | try -o long --steps 1 -b 4

echo held-out captions that are all the same
cut -f 1 pairs.tsv | grep -v 000007 | sed 's:$:	an image:' | try -o same --steps 1 -b 4 --holdout 4

echo entries that end with a zero byte
grep -v 000007 pairs.tsv | tr '\n' '\0' | try -o zero --steps 1 -b 4 -0

echo 290 held-out pairs: repeated captions are left out, groups have at most 256 pairs
grep -v 000007 pairs.tsv | cut -f 1 >paths
for i in $(seq 40); do cat paths; done | awk 'NR <= 300 { print $0 "\tnumber " NR % 274 }' >many
try -o groups --steps 1 -b 4 --holdout 290 --holdout-every 0 <many
grep -o '"holdout-pairs":[0-9]*' groups/metrics.jsonl
awk '{ sub(/number .*/, "number " NR % 20) } 1' many | try -o few --steps 1 -b 4 --holdout 210
grep -o '"holdout-pairs":[0-9]*' few/metrics.jsonl

echo a pair that is in the list twice
grep -v 000007 pairs.tsv | sed 'p;p' | try -o twice --steps 1 -b 4
tr -d '\t' <twice/latest/state.json | grep '^"records"'
