shapes=${SYNTH%/*}/shapes
$shapes -q -o drawn -n 12 --pairs pairs
cut -f 1 pairs | sort >list
ccld-encode -q -o store <list
$SYNTH -q -o model
try() {
    status=0
    ccld-score -q "$@" >out || status=$?
    echo $status $(wc -c <out)
}
# Images without a prompt, without an embedding, too few.
try drawn/000000.png
try --against store drawn/000000.png
head -n 5 list >five
try --against five $(cat list)
try --prompt 'a:0' --prompt '' nosuch.png
try --prompt a:0 drawn/000000.png
try --prompt a drawn
try --prompt a list
try
# Another CLOOB than the store's; a folder without images; stores and images; no store.
try -m model --against store $(cat list)
mkdir empty
try --against empty $(cat list)
try --against store --against drawn $(cat list)
try --against nosuch $(cat list)
: >nothing
try --against nothing $(cat list)
# Weights that are not finite.
mkdir nan
size=$(wc -c <model/cloob.safetensors)
head -c $((size / 2)) model/cloob.safetensors >nan/cloob.safetensors
head -c $((size - size / 2)) /dev/zero | tr '\0' '\377' >>nan/cloob.safetensors
try -m nan --prompt a drawn/000000.png
# The command line.
try --overall --prompt a drawn/000000.png
try --top 2 --against store drawn/000000.png
try --top 2 --json --prompt a drawn/000000.png
try --top 0 drawn/000000.png
try --against store --prompt a drawn/000000.png
try --reference 5 drawn/000000.png
try --against - </dev/null
# Standard output that is full, or no longer read.
ccld-score -q --prompt a drawn/000000.png >/dev/full || echo $?
ccld-score -q --top 1 --prompt a drawn/000000.png >/dev/full || echo $?
