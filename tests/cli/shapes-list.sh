# Lists the names of shapes and colors without a folder or a number of images.
shapes=${SYNTH%/*}/shapes
$shapes --list shapes
$shapes --list colours | paste -s -d '|'
$shapes --list shapes >/dev/full || echo $?
