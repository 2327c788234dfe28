c=$GOLDEN/checkpoints
try() {
    status=0
    ccld-weights ls "$1" || status=$?
    echo $status
}
try nowhere.ckpt
try .
: >empty
try empty
echo hello >text
try text
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >pointer
try pointer
printf '<!DOCTYPE html>\n' >page
try page
for f in lightning.ckpt legacy.ckpt kl-f8.zip cloob_tiny_protocol4.pkl expected.safetensors; do
    head -c 5000 "$c/$f" >cut
    try cut
done
head -c -100 "$c/expected.safetensors" >cut
try cut
head -c -100 "$c/legacy.ckpt" >cut
try cut
status=0
ccld-weights convert cut -o out.safetensors || status=$?
ccld-weights convert "$c/expected.safetensors" --names ours --weights raw -o raw.safetensors
ccld-weights convert "$c/cloob_tiny_protocol4.pkl" -o cloob.safetensors
ccld-weights convert "$c/hostile.ckpt" --names ours -o out.safetensors || status=$?
echo $status
ls *.safetensors*
