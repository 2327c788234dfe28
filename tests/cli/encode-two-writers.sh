$SYNTH -q -o model
mkfifo paths
ccld-encode -q -m model --size 64 --batch-size 1 -o store <paths &
exec 3>paths
echo "$GOLDEN/images/gray.jpg" >&3
until ccld-shards ls store >/dev/null 2>&1; do sleep 0.05; done
ccld-encode -q -m model --size 64 -o store "$GOLDEN/images/rgb.png" || echo $?
# Reading is allowed.
ccld-shards ls store | wc -l
exec 3>&-
wait
ccld-encode -q -m model --size 64 -o store "$GOLDEN/images/rgb.png"
ccld-shards ls store | wc -l
