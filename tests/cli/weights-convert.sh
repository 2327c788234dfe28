c=$GOLDEN/checkpoints
tensors() { ccld-weights -q ls "$1" | sed -n '/^[BFIU][A-Z0-9]* /p'; }
convert() { ccld-weights -q convert "$@"; }

# Converting from every format to both formats and back preserves the tensors.
for f in lightning.ckpt legacy.ckpt kl-f8.zip bare.pth; do
    tensors "$c/$f" >want
    convert "$c/$f" -o a.safetensors
    convert "$c/$f" -o a.ckpt
    convert a.ckpt -o b.safetensors
    convert a.safetensors --as torch -o b
    for got in a.safetensors a.ckpt b.safetensors b; do tensors $got | cmp - want; done
    cmp a.ckpt b
done
ccld-weights -q ls a.safetensors | head -n 2
ccld-weights -q ls a.ckpt | head -n 2

# haiku names become ours for any pickle protocol; the file's names are kept on request.
convert "$c/cloob_tiny_protocol2.pkl" -o c2.safetensors
convert "$c/cloob_tiny_protocol4.pkl" -o c4.safetensors
cmp c2.safetensors c4.safetensors
tensors c2.safetensors | sed -n '1,3p'
convert "$c/cloob_tiny_protocol4.pkl" --names file -o c.safetensors
tensors c.safetensors | sed -n '1,2p'

# One of two sets of weights, named as in the reference's own checkpoints.
convert "$c/lightning.ckpt" --weights ema -o ema.pth
convert "$c/lightning.ckpt" --weights raw -o raw.safetensors
convert "$c/bare.pth" --names ours -o bare.pth
cmp ema.pth bare.pth
tensors raw.safetensors | sed -n '1,2p'
convert ema.pth -o ema.safetensors
cmp -s ema.safetensors raw.safetensors || echo ema and raw differ

# Element types: scalars and Fourier weights keep theirs in half precision.
for t in f16 bf16 f32; do
    ccld-weights convert "$c/bare.pth" --dtype $t -o $t.safetensors
    tensors $t.safetensors | cut -d ' ' -f 1 | sort | uniq -c | sed 's/^ *//'
done
tensors f16.safetensors | grep 'scale\|embed'
convert f16.safetensors --dtype f32 -o again.safetensors
convert again.safetensors --dtype f16 -o f16b.safetensors
cmp f16.safetensors f16b.safetensors
convert "$c/lightning.ckpt" --dtype f16 -o l.safetensors
tensors l.safetensors | grep 'odd\|scale_factor'
ccld-weights -v convert "$c/lightning.ckpt" --weights ema -o v.safetensors
