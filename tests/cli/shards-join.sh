$SYNTH -q -o model
encode() {
    store=$1
    shift
    ccld-encode -q -m model --size 64 --shard-size 2 -o "$store" "$@"
}
encode a "$GOLDEN"/images/*.jpg
encode b "$GOLDEN"/images/rgb.png "$GOLDEN"/images/gray16.png "$GOLDEN"/images/rgba.png
encode both "$GOLDEN"/images/rgb.png
encode pil --pil-compat "$GOLDEN"/images/palette_trns.png
try() {
    status=0
    ccld-shards join "$@" || status=$?
    echo $status
}
# What is refused changes nothing.
find a b both pil ! -name '*-lock' | sort >before
try out
try out a nowhere
try out a pil
try out a b both
try out a ./a
try b a
try b a b
find a b both pil ! -name '*-lock' | sort | cmp - before
test ! -e out
# A writer that is still running.
mkfifo paths
ccld-encode -q -m model --size 64 --batch-size 1 -o open <paths &
exec 3>paths
echo "$GOLDEN/images/gray.jpg" >&3
until ccld-shards ls open >/dev/null 2>&1; do sleep 0.05; done
try out b open
exec 3>&-
wait
# The order of the stores is the order of the records.
try out b a
ccld-shards ls out | sed 's,	.*/,	,'
ls -A a b
ls out | grep -v lock
ccld-shards verify out
try out b a
encode c "$GOLDEN"/images/palette_trns.png
try out out c
ccld-shards ls out | wc -l
