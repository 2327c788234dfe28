$SYNTH -q -o model
$SYNTH -q -o other --seed 2
plms="ccld-plms -q --size 64 --steps 2"
$plms -m model a >model.stream
$plms -m other a >other.stream
$plms -m ./other/ a | cmp - other.stream
CCLD_MODEL=other $plms a | cmp - other.stream
CCLD_MODEL=other $plms -m model a | cmp - model.stream
# One network at a time from another file.
cp other/diffusion.safetensors net.safetensors
$plms -m other --checkpoint net.safetensors a >net.stream
tail -c 12288 other.stream >pixels
tail -c 12288 net.stream | cmp - pixels
grep -a '^# model=' model.stream other.stream net.stream
$plms --checkpoint other/diffusion.safetensors --autoencoder other/autoencoder.safetensors --cloob other/cloob.safetensors a |
    cmp - other.stream
$plms -m model --autoencoder other/autoencoder.safetensors a >autoencoder.stream
$plms -m model --cloob other/cloob.safetensors a >cloob.stream
$plms -m model --checkpoint other/diffusion.safetensors a >diffusion.stream
for i in *.stream; do tail -c 12288 $i | cksum; done | sort -u | wc -l

# The tensors of a Lightning checkpoint: raw weights of one model, averaged weights of the other.
header() { # FILE PREFIX OFFSET: prints the entries without metadata
    head -c $((8 + $(od -A n -t u8 -N 8 $1))) $1 | tail -c +9 | tr '{' '\n' | tr '}' '\n' | awk -v prefix="$2" -v offset="$3" '
        /^,?"__metadata__"|^,?"[^"]*":$/ && !/__metadata__/ { gsub(/[,":]/, ""); name = prefix $0 }
        match($0, /"data_offsets":\[[0-9,]*\]/) {
            split(substr($0, RSTART + 16, RLENGTH - 17), at, ",")
            printf "%s\"%s\":{%s\"data_offsets\":[%d,%d]}", comma, name, substr($0, 1, RSTART - 1), at[1] + offset, at[2] + offset
            comma = ","
        }'
}
data() {
    tail -c +$((9 + $(od -A n -t u8 -N 8 $1))) $1
}
pack() { # JSON FILE...
    printf '{%s}' "$1" >json
    shift
    while [ $(($(wc -c <json) % 8)) != 0 ]; do printf ' ' >>json; done
    length=$(wc -c <json)
    printf "$(printf '\\%03o\\%03o\\%03o' $((length % 256)) $((length / 256 % 256)) $((length / 65536)))\0\0\0\0\0"
    cat json
    for file; do data $file; done
}
raw=model/diffusion.safetensors ema=other/diffusion.safetensors
mkdir lightning
pack "$(header $raw model. 0),$(header $ema model_ema. $(data $raw | wc -c))" $raw $ema >lightning/diffusion.safetensors
pack "$(header $ema model_ema. 0)" $ema >averaged.safetensors
cp model/autoencoder.safetensors model/cloob.safetensors lightning
tail -c 12288 model.stream >raw
tail -c 12288 diffusion.stream >ema
$plms -m lightning a | tail -c 12288 | cmp - ema
$plms -m lightning --weights ema a | tail -c 12288 | cmp - ema
$plms -m lightning --weights raw a | tail -c 12288 | cmp - raw
# The same in the format of PyTorch.
ccld-weights -q convert lightning/diffusion.safetensors -o lightning.ckpt
$plms -m model --checkpoint lightning.ckpt a | tail -c 12288 | cmp - ema
$plms -m model --checkpoint lightning.ckpt --weights raw a | tail -c 12288 | cmp - raw

try() {
    status=0
    $plms "$@" a >stream || status=$?
    echo $status $(wc -c <stream)
}
# A program alone in a folder has no model next to it.
cp "$(command -v ccld-plms)" alone
status=0
./alone -q a >stream || status=$?
echo $status $(wc -c <stream)
# Otherwise the included model is used, in its training size.
ccld-plms -q --steps 2 "a red circle" >shipped.stream
ccld-plms -q --steps 2 -m "$CASES/../../models/small" --size 64 "a red circle" | cmp - shipped.stream
head -n 1 shipped.stream
grep -a '^[0-9]* [0-9]*$' shipped.stream | head -n 1
mkdir empty part
cp model/autoencoder.safetensors model/cloob.safetensors part
head -c 100000 model/cloob.safetensors >torn.safetensors
$SYNTH -q -o wide --embed 256 --unet-only
try -m nosuch
try -m empty
try -m part
try -m model/diffusion.safetensors
try -m model --checkpoint nosuch.ckpt
try -m model --autoencoder nosuch.zip
try -m model --cloob nosuch.pkl
try -m model --cloob torn.safetensors
try -m model --checkpoint model/cloob.safetensors
try -m model --cloob model/diffusion.safetensors
try -m model --autoencoder model/diffusion.safetensors
try -m model --checkpoint wide/diffusion.safetensors
try -m model --checkpoint averaged.safetensors --weights raw
# A checkpoint records its training size.
printf '%s\n' "$GOLDEN"/images/*.png | ccld-encode -q -m model --size 128x64 -o shards
ccld-fit -q shards -o run --init-from model/diffusion.safetensors -b 2 --steps 1 2>err
ccld-weights -q ls run/latest/diffusion.safetensors | grep pixels
ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --steps 2 a | sed -n '/^[0-9]* [0-9]*$/{p;q}'
ccld-plms -q -m model --checkpoint run/latest/diffusion.safetensors --steps 2 --size 64 a | sed -n '/^[0-9]* [0-9]*$/{p;q}'
try -m model --size 0x64
