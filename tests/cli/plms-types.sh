# Autoencoders in a file of a larger model, as in Stable Diffusion's, whose other tensors are of any type.
$SYNTH -q -o model
plms="ccld-plms -q -m model --size 64 --steps 2"
try() {
    status=0
    $plms --autoencoder "$1" a >out.stream || status=$?
    echo $status
}
$plms a >want.stream
size() { od -A n -t u8 -N 8 "$1" | tr -d ' '; }
# Puts a tensor of 8 bytes in front of those of the autoencoder.
with() { # NAME TYPE SHAPE FILE
    n=$(size "$4")
    head -c $((8 + n)) "$4" | tail -c +9 | sed "s/^{//; s/ *$//" >rest
    # Offsets count from the new tensor.
    awk -v head="{\"$1\":{\"dtype\":\"$2\",\"shape\":[$3],\"data_offsets\":[0,8]}," '{
        out = head
        while (match($0, /"data_offsets":\[[0-9]+,[0-9]+\]/)) {
            split(substr($0, RSTART + 16, RLENGTH - 17), at, ",")
            out = out substr($0, 1, RSTART - 1) sprintf("\"data_offsets\":[%d,%d]", at[1] + 8, at[2] + 8)
            $0 = substr($0, RSTART + RLENGTH)
        }
        printf "%s", out $0
    }' rest >header
    while [ $((($(wc -c <header) + 8) % 64)) != 56 ]; do printf ' ' >>header; done
    m=$(wc -c <header)
    printf "$(printf '\\%03o\\%03o\\%03o' $((m % 256)) $((m / 256 % 256)) $((m / 65536)))\0\0\0\0\0"
    cat header
    printf '\1\2\3\4\5\6\7\10'
    tail -c +$((9 + n)) "$4"
}
for type in F8_E4M3,8 U16,4 C64,1 F4,16 F1_X,99; do
    with model.diffusion_model.out.2.weight ${type%,*} ${type#*,} model/autoencoder.safetensors >sd.safetensors
    try sd.safetensors
    tail -c 12288 want.stream >want
    tail -c 12288 out.stream | cmp - want
done
# Tensors that are needed.
retype() { # TYPE: writes the autoencoder with its last bias as this type
    sed "s/\"dtype\":\"F32\",\"shape\":\[3\]/\"dtype\":\"$1\",\"shape\":[3]/" model/autoencoder.safetensors
}
grep -a -o '"decoder.conv_out.bias":{"dtype":"F32","shape":\[3\]' model/autoencoder.safetensors
retype X32 >x32.safetensors
try x32.safetensors
