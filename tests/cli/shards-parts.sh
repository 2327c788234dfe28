# A folder with parts/0, parts/1 ... stands for its parts, in the order of their numbers.
$SYNTH -q --embed 32 --unet-cond 64 -o model
encode() { ccld-encode -q -m model --size 64 "$@"; }
mkdir images # a path's part depends on its text
cp "$GOLDEN"/images/*.jpg images
set -- images/*.jpg
encode -o all/parts/0 $1 $2
encode -o all/parts/2 $3
encode -o all/parts/10 $4 $5
mkdir all/parts/1
ccld-shards ls all | sed 's,	images/,	,'
ccld-shards ls all/parts/0 all/parts/2 all/parts/10 >expected
ccld-shards ls all/ | cmp - expected
ccld-shards stat all | sed -n '/^total/,/^shards/p'
ccld-shards verify all
ccld-shards cat all 4 >record
ccld-shards cat all/parts/10 1 | cmp - record
ccld-fit -q --device cpu all -o run --init-from model/diffusion.safetensors --autoencoder-scale 0 -b 1 --steps 1
# Together with another store, and joined with it; a part without shards adds nothing. Parts that are missing do.
encode -o more "$GOLDEN"/images/rgb.png
ccld-shards ls all more | cut -f 1,2
try() {
    status=0
    "$@" || status=$?
    echo $status
}
try ccld-shards join joined all more
rm -r all/parts/10
mkdir all/parts/3
encode -o all/parts/3 $4
try ccld-shards join joined more all
ccld-shards ls joined | sed 's,	.*/,	,'
try ccld-shards join joined more all
# Nothing is left in the parts.
try ccld-shards stat all
try ccld-shards join other all
# A store's parts joined into the folder itself: it becomes a single store.
encode --device cpu --devices 2 -o two "$@"
try ccld-shards join two two/parts/*
try ccld-shards join two two/parts/*
ls -A two two/parts/0
ccld-shards ls two | cut -f 2 | sort | sed 's,.*/,,'
ccld-shards verify two
encode -o two "$GOLDEN"/images/rgb.png
ccld-shards ls two | wc -l
# Shards of its own and of parts.
encode -o two/parts/1 "$GOLDEN"/images/gray16.png
try ccld-shards stat two
try ccld-fit -q --device cpu two -o never
try encode -o two "$GOLDEN"/images/rgb.png
try ccld-shards join two two two/parts/1
ccld-shards ls two | wc -l
