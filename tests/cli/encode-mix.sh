$SYNTH -q -o model
$SYNTH -q --seed 2 -o other
photo=$GOLDEN/images/gray.jpg
ccld-encode -q -m model --size 64 -o store "$photo"
try() {
    status=0
    ccld-encode -q --size 64 -o store "$@" "$photo" || status=$?
    echo $status
}
try -m other
try -m model --cloob other/cloob.safetensors
try -m model --autoencoder other/autoencoder.safetensors
try -m model --size 128
try -m model --size 64x128
try -m model --pil-compat
try -m model --embed-dtype f16
# The same weights under another name are accepted.
mv model renamed
mv renamed/cloob.safetensors elsewhere.safetensors
try -m renamed --cloob elsewhere.safetensors
ccld-shards ls store | wc -l
