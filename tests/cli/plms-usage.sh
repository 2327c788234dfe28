$SYNTH -q -o model
try() {
    status=0
    ccld-plms -q -m model --size 64 --steps 2 "$@" >stream || status=$?
    echo $status $(wc -c <stream)
}
try --method euler a
try --schedule linear a
try --weights both a
try -n 0 a
try --first -1 a
try --steps 0 a
try --batch-size 0 a
try --seed -1 a
try --seed 18446744073709551616 a
try --guidance nan a
try --guidance 2e6 a
try --embed-noise -1 a
try --autoencoder-scale -1 a
try --autoencoder-scale inf a
try --size 16385 a
try --size 64x a
try --eta 1.5 --method ddim a
try --eta 1 --method plms a
try --starting-timestep 1.5 a
try --starting-timestep 0.5 a
try --prompts list a
try --nosuch a
try --images
# The command line is well formed, but what it names is wrong: status 1.
try --size 60 a
try --size 64x96 a
try a:2e6
try --device tpu a
try --precision fp8 a
