$SYNTH -q -o model
photo=$GOLDEN/images/gray.jpg
try() {
    status=0
    ccld-encode -q "$@" || status=$?
    echo $status
}
try -m model "$photo"
try -m model -o store </dev/null
try -m model -o store --size 60 "$photo"
try -m model -o store --size 0x64 "$photo"
try -m model -o store --size 64x "$photo"
try -m nowhere -o store "$photo"
try -m model --cloob nowhere.pkl -o store "$photo"
try -m model --batch-size 0 -o store "$photo"
try -m model --max-failures 101 -o store "$photo"
try -m model --rejects nowhere/rejects -o store "$photo"
try -m model --cloob model/autoencoder.safetensors -o store "$photo"
mkdir album
cp "$photo" album
try -m model -o album "$photo"
try -m model -o "$photo" "$photo"
ls album
