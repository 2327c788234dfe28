# Generated images and captions: the same in parts, in another split, after a rerun.
shapes=${SYNTH%/*}/shapes
$shapes -o one -n 6 --pairs one.tsv
$shapes -q -o two --first 3 -n 3 >two.tsv
cmp one/000003.png two/000003.png
cmp one/000005.txt two/000005.txt
tail -n 3 one.tsv | sed 's/^one/two/' | cmp - two.tsv
cut -f 2 one.tsv | head -n 1 | cmp - one/000000.txt
ls one

# A rerun replaces damaged and missing files and keeps the rest.
cp -p one/000002.png saved.png
touch -d 2001-01-01 one/000001.png
head -c 100 saved.png >one/000002.png
rm one/000004.png one/000005.txt
$shapes -o one -n 6 --pairs again.tsv
cmp one.tsv again.tsv
cmp saved.png one/000002.png
[ one/000001.png -ot saved.png ]
ls one | wc -l

# A different image is not replaced.
status=0; $shapes -q -o one -n 6 --seed 1 >/dev/null || status=$?; echo $status
status=0; $shapes -q -o one -n 6 --size 32 >/dev/null || status=$?; echo $status
cmp saved.png one/000002.png

# Another size; no images at all.
$shapes -q -o small -n 1 --size 32 --split holdout | cut -f 1
pngtopnm small/000000.png | head -n 2 | tail -n 1
$shapes -q -o none -n 0
ls none

# Only the images of the sequence that contain one shape.
$shapes -q -o some -n 40 --only ring >some.tsv
$shapes -q -o all -n 40 | grep ring | sed 's/^all/some/' | cmp - some.tsv
ls some | wc -l
cut -f 1 some.tsv | wc -l
