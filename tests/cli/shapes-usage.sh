# What the generator of images refuses.
shapes=${SYNTH%/*}/shapes
try() {
    status=0
    "$@" || status=$?
    echo $status
}
try $shapes -n 4
try $shapes -o x
try $shapes -o x -n 4 stray
try $shapes -o x -n 4 --split none
try $shapes -o x -n 4 --size 8
touch file
try $shapes -o file -n 1
mkdir pairs
try $shapes -q -o y -n 1 --pairs pairs
