# 4 GB of zeros, which take no room.
header='{"a":{"dtype":"F32","shape":[1073741824],"data_offsets":[0,4294967296]}}'
printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header" >zeros.safetensors
truncate -s $((8 + ${#header} + 4294967296)) zeros.safetensors
mkdir out
for name in a.safetensors a.ckpt; do
    for signal in TERM HUP; do
        ccld-weights -q convert zeros.safetensors -o out/$name &
        until [ -n "$(ls out)" ]; do sleep 0.01; done
        kill -$signal $!
        status=0
        wait $! 2>/dev/null || status=$?
        echo $name $signal $status
        ls -A out
    done
done
# What was there before stays, also at a limit on the size of files.
echo old >out/a.safetensors
ulimit -f 2000
status=0
ccld-weights -q convert zeros.safetensors -o out/a.safetensors || status=$?
echo $status
ls -A out
cat out/a.safetensors
