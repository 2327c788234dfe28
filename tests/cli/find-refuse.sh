shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 4 --pairs pairs
cut -f 1 pairs | sort >list
ccld-encode -q -o store <list
$SYNTH -q -o model
try() {
    status=0
    ccld-find -q "$@" >out || status=$?
    echo $status $(wc -c <out)
}
try
try store
try 'a red star'
try 'a red star' store
mkdir red
try store red
try nosuch 'a red star'
try store nosuch/ 'a red star'
try store drawn 'a red star'
try store store 'a red star'
# Another CLOOB than the stores', or than the other store's.
try -m model store 'a red star'
ccld-encode -q -m model --size 64 -o other <list
try store other 'a red star'
# Prompts.
try store ''
try store 'a:1' 'a:-1'
try store 'a red star:0'
try store a:0 --image "$(head -n 1 list):0"
try store @nosuch.png
try store --image nosuch.png
# The command line.
try -k 0 store a
try --above 2 store a
try --json --to-remove store a
try --json -0 store a
ccld-find -q store a >/dev/full || echo $?
