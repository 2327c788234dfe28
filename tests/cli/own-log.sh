# A new run or store may have the program's own log in its folder, but no other file.
$SYNTH -q --embed 32 --unet-cond 64 -o model
find "$GOLDEN"/images -maxdepth 1 -name 'gray.*' >list
small="--size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1 -b 1 --steps 1"
mkdir run store other
ccld-fit-autoencoder -o run $small <list 2>run/log
grep -c 'step 1' run/log
ls run | grep -v events
ccld-encode -m model --size 64 -o store <list 2>store/log >store/output
ls store
: >other/notes
try() {
    status=0
    "$@" <list 2>other/log || status=$?
    cat other/log
    rm other/log
    echo $status
}
try ccld-fit-autoencoder -q -o other $small
try ccld-encode -q -m model --size 64 -o other
