# Two processes on the CPU write a part each. What cannot be done is refused in one line, before anything is written.
$SYNTH -q -o model
mkdir images # a path's part depends on its text
cp "$GOLDEN"/images/*.jpg images
ls images/*.jpg >list
encode="ccld-encode --device cpu -m model --size 64"
$encode --devices 2 -o two <list
ccld-shards ls two | cut -f 3 | sort | cmp - list
$encode --devices 3 -o two <list
$encode -o one <list
try() {
    status=0
    "$@" <list || status=$?
    echo $status
}
try $encode --devices 2 -o one
try $encode --devices all -o never
try $encode --devices 0,1 -o never
try $encode --devices 0 -o never
try $encode --devices two -o never
try ccld-encode --device cuda:0 --devices 2 -m model -o never
CCLD_CUDA_PLUGIN=nowhere.so try ccld-encode --device auto --devices all -m model -o never
mkdir never
touch never/foreign
try $encode --devices 2 -o never
ls never
