t=$GOLDEN/types
try() {
    status=0
    ccld-weights "$@" || status=$?
    echo $status
}
# All types that safetensors has: through both formats and back, tensors stay the same.
ccld-weights ls "$t/torch.pt"
convert() { ccld-weights -q convert "$@"; }
convert "$t/torch.pt" -o a.safetensors
convert "$t/legacy.pt" -o b.safetensors
cmp a.safetensors b.safetensors
convert a.safetensors -o a.pt
convert a.pt -o c.safetensors
cmp a.safetensors c.safetensors
convert "$t/numpy2.pkl" -o numpy.safetensors 2>/dev/null || echo $?
# Eight-bit floats are converted; scales, integers and complex numbers are not.
convert a.safetensors --dtype f16 -o f16.safetensors
ccld-weights -q ls f16.safetensors | grep 'float8\|complex\|uint'

# Others: each is named, and nothing is written.
try ls "$t/unreadable.pt"
try convert "$t/unreadable.pt" -o out.safetensors
try convert "$t/unreadable-legacy.pt" -o out.pt
try convert "$t/numpy5.pkl" -o out.safetensors
make() { # HEADER BYTES
    printf "\\$(printf %03o ${#1})\\0\\0\\0\\0\\0\\0\\0%s" "$1"
    head -c "$2" /dev/zero
}
make '{"a":{"dtype":"F4","shape":[2,8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}' 9 >f4.safetensors
try ls f4.safetensors
try convert f4.safetensors -o out.safetensors
# Nor is it silent about tensors that have no place in the network, of whatever type.
make '{"decoder.up_blocks.0.resnets.0.conv1.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"other":{"dtype":"F4","shape":[2],"data_offsets":[4,5]}}' 5 >foreign.safetensors
try convert foreign.safetensors -o ours.safetensors
ls
