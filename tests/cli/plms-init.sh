$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64x128 --steps 10 --method ddim"
photo=$GOLDEN/images/photo420.jpg
other=$GOLDEN/images/rgb.png
pixels() {
    tail -c 24576
}
# The image and the starting timestep, 0.9 by default, matter; the batch size does not.
$plms -n 2 --init "$photo" a >default
$plms -n 2 --init "$photo" --starting-timestep 0.9 -b 1 a | cmp - default
$plms -n 2 --init "$photo" --low-memory a | cmp - default
$plms --first 1 --init "$photo" a >last
tail -c $(wc -c <last) default | cmp - last
pixels <default >1
$plms --first 1 --init "$other" a | pixels >2
$plms --first 1 --init "$photo" --starting-timestep 0.3 a | pixels >3
$plms --first 1 a | pixels >4
cksum 1 2 3 4 | cut -d ' ' -f 1 | sort -u | wc -l
# Starting near the end leaves little but the image: neither noise nor prompt matters much.
distance() { # root of the mean square
    od -A n -t u1 -v -w1 $1 >a
    od -A n -t u1 -v -w1 $2 | paste a - | awk '{ d = $1 - $2; sum += d * d } END { print sqrt(sum / NR) < 10 ? "near" : "far" }'
}
late="--steps 1000 --starting-timestep 0.002"
$plms $late --init "$photo" a | pixels >1
$plms $late --init "$photo" --seed 1 b | pixels >2
$plms $late --init "$other" a | pixels >3
distance 1 2
distance 1 3
try() {
    status=0
    $plms "$@" >stream || status=$?
    echo $status $(wc -c <stream)
}
: >empty
try --init nosuch a
try --init empty a
try --init . a
# None of ten timesteps is this low.
try --init "$photo" --starting-timestep 0.01 a
try --init "$photo" --starting-timestep 0 a
