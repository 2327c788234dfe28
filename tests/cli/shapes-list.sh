# The names that captions have for shapes and colours, without a folder or a number of pictures.
shapes=${SYNTH%/*}/shapes
$shapes --list shapes
$shapes --list colours | paste -s -d '|'
$shapes --list shapes >/dev/full || echo $?
