$SYNTH -q -o model
mkdir photos
for i in 1 2 3 4 5 6 7 8; do cp "$GOLDEN/images/small.png" photos/$i.png; done
find photos -type f | sort >list
# The list stays open: the signal arrives while the program waits for more.
mkfifo paths
ccld-encode -m model --size 64 --batch-size 2 -o store <paths &
encoder=$!
exec 3>paths
head -n 4 list >&3
until [ "$(ccld-shards ls store 2>/dev/null | wc -l)" = 4 ]; do sleep 0.05; done
kill -TERM $encoder
status=0
wait $encoder || status=$?
exec 3>&-
echo $status
ccld-shards verify store
ccld-shards stat store | grep finished
ccld-encode -m model --size 64 -o store <list
ccld-shards stat store | grep finished
ccld-shards ls store | cut -f 2 | cmp - list
