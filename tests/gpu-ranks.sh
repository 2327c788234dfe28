#!/bin/bash
# The trainers with a rank per GPU: the same bytes from 1, 2 and 4 GPUs, runs resumed on other numbers of
# GPUs, and a GPU's rank that is killed. On the emulator, or with CCLD_DEVICE=cuda on as many GPUs as there
# are. Prints TAP.
# usage: [BUILD=build] tests/gpu-ranks.sh
set -u
. "$(dirname "$0")/support/apart.sh"
. "$top/tests/support/runs.sh"

if [ "${CCLD_DEVICE:-}" = cuda ]; then
    gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
    [ "$gpus" -gt 1 ] || { echo "1..0 # SKIP there are $gpus GPUs, not several"; exit 0; }
else
    gpus=4
    export CCLD_DEVICE=cuda CCLD_CUDA_PLUGIN=$build/tests/cuda-host/libccld-cuda-host.so CCLD_EMULATED_GPUS=4
fi
export XDG_CACHE_HOME=$work/cache
mkdir cache

exec 2>stderr # where the shell reports processes that are killed
"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 32 -o model || exit 2
"$build/tests/synth/shapes" -q -o images -n 24 --size 32 --pairs pairs.tsv || exit 2
cut -f 1 pairs.tsv >list
ccld-encode -q -m model --size 64 --device cpu -o shards <list 2>log || exit 2

fit="ccld-fit --lr 1e-3 --clip-grad 1 --init-from model/diffusion.safetensors --log-every 1 --holdout 3 --holdout-every 2 --seed 7 shards"
fit_autoencoder="ccld-fit-autoencoder -q --size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1
    --lr 1e-3 --warmup 2 --clip-grad 1 --holdout 3 --holdout-every 2 --disc-start 1 --log-every 1 --seed 7"
fit_cloob="ccld-fit-cloob -q --image-size 16 --patch-size 8 --width 64 --layers 1 --text-width 64 --text-layers 1
    --vocabulary 600 --embed 32 --lr 3e-4 --lr-schedule constant --size 24 --holdout 4 --holdout-every 2
    --log-every 1 --seed 3"


# Steps beyond the second one are replayed.
steps=4
$fit --device cuda:0 --steps $steps -b 1 --accumulate 4 -o one 2>log
ok $? 'one GPU'
# Whatever the order of work that nothing orders, on the emulator.
for order in early late; do
    CCLD_EMULATED_ORDER=$order $fit --steps $steps -b 1 --accumulate 2 --devices 2 -o two 2>log &&
        same one two >>log 2>&1
    ok $? "two GPUs end in the same weights and optimizer, bit for bit: $order"
    mv two two-$order
done
grep -q '^ccld-fit: effective batch 4 (1 x 2 x 2), ' log && ! grep -q rank log
ok $? 'the first rank speaks for both'
if [ "$gpus" -ge 4 ]; then
    $fit --steps $steps -b 1 -o four 2>log && same one four >>log 2>&1 && grep -q '(1 x 1 x 4)' log
    ok $? 'all four GPUs are used if nothing is said, with the same result'
    $fit --steps 2 -b 1 -o chain 2>log && ccld-fit --resume chain --devices 1,2 --steps 3 2>>log &&
        ccld-fit --resume chain --device cuda:1 --steps $steps 2>>log && same one chain >>log 2>&1
    ok $? 'a run of four GPUs may be resumed on two and on one'
fi
$fit --steps $steps -b 2 --accumulate 2 --device cuda:0 --precision bf16 -o one-bf16 2>log &&
    $fit --steps $steps -b 2 --devices 2 --precision bf16 -o two-bf16 2>>log && same one-bf16 two-bf16 >>log 2>&1
ok $? 'in bf16, too'
muon="$fit --optimizer muon --steps $steps"
$muon --device cuda:0 -b 1 --accumulate 4 -o muon-one 2>log
ok $? 'Muon on one GPU'
for order in early late; do
    CCLD_EMULATED_ORDER=$order $muon -b 1 --accumulate 2 --devices 2 -o muon-$order 2>log &&
        same muon-one muon-$order >>log 2>&1
    ok $? "Muon on two GPUs, bit for bit: $order"
done
$muon -b 4 --device cuda:0 --precision bf16 -o muon-whole 2>log &&
    $muon -b 4 --device cuda:0 --precision bf16 --steps 2 -o muon-parts 2>>log &&
    ccld-fit --resume muon-parts --device cuda:0 --steps $steps 2>>log && same muon-whole muon-parts >>log 2>&1
ok $? 'Muon in bf16, whose kernels have working copies, and resumed'
$fit_autoencoder --steps 3 -b 1 --accumulate 2 --device cuda:0 -o a-one <list 2>log &&
    $fit_autoencoder --steps 3 -b 1 --devices 2 -o a-two <list 2>>log && same a-one a-two >>log 2>&1
ok $? 'ccld-fit-autoencoder, with a discriminator'
$fit_cloob --steps 3 -b 2 --accumulate 4 --device cuda:0 -o c-one <pairs.tsv 2>log &&
    $fit_cloob --steps 3 -b 2 --accumulate 2 --devices 2 -o c-two <pairs.tsv 2>>log && same c-one c-two >>log 2>&1
ok $? 'ccld-fit-cloob'

$fit --device cuda:0 --devices 2 --steps 1 -b 1 -o never 2>log
[ $? = 2 ] && grep -q -- '--devices and --device cuda:0 cannot be combined' log
ok $? '--device with a number and --devices exclude each other'

$fit -q --steps 100000 --checkpoint-every 2 --keep 2 -b 1 --devices 2 -o killed 2>log &
parent=$!
for _ in $(seq 600); do [ -e killed/latest ] && break; sleep 0.1; done
victim=$(pgrep -P $parent | tail -n 1)
kill -KILL "$victim"
begin=$(date +%s%N)
wait $parent
status=$?
[ $status = 1 ] && [ $(($(date +%s%N) - begin)) -lt 2000000000 ] && ! pgrep -P $parent >/dev/null &&
    grep -q "^ccld-fit: rank 1 (process $victim) was killed by SIGKILL" log
ok $? 'a GPU'"'"'s rank that is killed ends all within two seconds, and is named'
done=$(readlink killed/latest | tr -dc 0-9)
ccld-fit -q --resume killed --devices 2 --steps $((10#$done + 2)) 2>log
ok $? 'the last checkpoint can be resumed from'
echo "1..$number"
