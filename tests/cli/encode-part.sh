$SYNTH -q -o model
mkdir photos
i=100
for image in "$GOLDEN"/images/*.jpg "$GOLDEN"/images/rgb*.png; do
    i=$((i + 1))
    cp "$image" "photos/$i.${image##*.}"
done
find photos -type f | sort >list
for part in 1 2 3; do
    ccld-encode -m model --size 64 --part $part/3 -o parts/$part <list
done
# Each path is in one part. Another order of the list changes nothing.
ccld-shards ls parts/* | cut -f 3 | sort | cmp - list
sort -r list >reversed
ccld-encode -m model --size 64 --part 2/3 -o parts/2 <reversed
ccld-shards join all parts/1 parts/2 parts/3
ccld-shards verify all
ccld-encode -m model --size 64 -o all <list
cp "$GOLDEN/images/gray16.png" photos/new.png
ccld-encode -m model --size 64 -o all photos/new.png
ccld-shards ls all | cut -f 2 | sort | tail -n 1
ccld-shards verify all
# A bad file fails in one part only; the others have nothing to do, which is no failure.
for part in 1 2; do
    status=0
    ccld-encode -m model --size 64 --part $part/2 -o bad$part nowhere.jpg || status=$?
    echo $status
done
# One line tells what is wrong.
for part in 0/3 4/3 -1/3 1/0 1 1/ /3 1/3/ 1/3x 1.5/3 '' 1/99999999999999999999; do
    status=0
    ccld-encode -m model --size 64 --part "$part" -o never <list || status=$?
    echo $status
done
test ! -e never
