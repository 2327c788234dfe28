# Files of other projects where ours are expected.
$SYNTH -q -o model
photo=$GOLDEN/images/gray.jpg
printf 'model:\n  base_learning_rate: 4.5e-06\n' >config.yaml
printf '{"a": 1}\n' >config.json
try() {
    status=0
    "$@" >out || status=$?
    echo $status
}
try ccld-plms -m model --autoencoder config.yaml a
try ccld-plms -m model --cloob config.json a
try ccld-encode -m model --autoencoder config.yaml -o store "$photo"
try ccld-fit -o run --resume "$GOLDEN/checkpoints/lightning.ckpt"
try ccld-fit-autoencoder -o run --init-from config.yaml "$photo"
try ccld-fit-autoencoder -o run --resume "$GOLDEN/checkpoints/lightning.ckpt" "$photo"
try ccld-weights ls config.yaml
ls
