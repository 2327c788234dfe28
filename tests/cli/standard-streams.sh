# "-" is standard input, or standard output.
$SYNTH -q -o model
photo=$GOLDEN/images/gray.jpg
sample() {
    ccld-plms -q -m model --size 64 --steps 2 "$@"
}
echo "$photo" | ccld-encode -q -m model --size 64 -o store -
ccld-shards -q verify store
sample --init "$photo" a | tail -c 12288 >expected
cat "$photo" | sample --init - a >got
grep -a '^# init=' got
tail -c 12288 got | cmp - expected
sample --init - a <"$photo" | cmp - got
sample --images "$photo:2" | sed 's/image [^:]*/image -/' >expected
cat "$photo" | sample --images -:2 >got
head -n 20 got | grep -a 'image -' | sed 's/.*image/image/' | head -n 1
sample --images "$photo:2" | tail -c 12288 >expected
tail -c 12288 got | cmp - expected
ccld-score -q -m model got </dev/null || echo $?
try() {
    status=0
    "$@" >out || status=$?
    echo $status
}
try sample --init - --images - a <"$photo"
try sample --init - <"$photo"
try sample --init - --prompts - <"$photo"
try sample --init - a </dev/null
echo text | try sample --init - a
printf 'P5 2 1 255\n\001\002' >a.pgm
ccld-grid -q a.pgm >expected.png
ccld-grid -q -o - a.pgm | cmp - expected.png
try ccld-weights convert model/cloob.safetensors -o -
ls
# A pipe whose first program failed.
try ccld-grid -o grid.png </dev/null
[ ! -e grid.png ]
