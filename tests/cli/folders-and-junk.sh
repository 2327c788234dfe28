$SYNTH -q -o model
try() {
    status=0
    "$@" || status=$?
    echo $status
}
# Files beside images: the first of each kind are named, the others counted; --rejects has all.
mkdir 'my photos'
cp "$GOLDEN"/images/rgb*.png 'my photos'
for i in $(seq 10 36); do echo "note $i" >"my photos/note$i.txt"; done
for i in $(seq 10 20); do : >"my photos/empty$i"; done
find 'my photos' -type f | sort >list
try ccld-encode -m model --size 64 --max-failures 100 -o shards <list 2>err
sed 's/ in [0-9].*//' err
try ccld-encode -q -m model --size 64 --max-failures 100 --rejects rejects -o shards <list 2>err
grep 'more files' err
wc -l <rejects
# Captions that are missing.
try ccld-fit-cloob -q --init-from model/cloob.safetensors -b 4 --steps 1 --device cpu -o run <list 2>err
grep -c 'no caption for' err
grep 'more files' err
# The same folder by its name: the others are not images, and are counted.
try ccld-encode -m model --size 64 --max-failures 100 -o other 'my photos' 2>err
sed 's/ in [0-9].*//' err | tail -n 2
try ccld-fit-cloob -q --init-from model/cloob.safetensors -b 4 --steps 1 --device cpu -o run 'my photos' 2>err
grep -c 'no caption for' err
# A folder in the place of a file.
echo 'my photos' >folder
try ccld-encode -q -m model --size 64 -o other <folder
try ccld-grid 'my photos' >grid.png; wc -c <grid.png
