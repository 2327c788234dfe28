# Training on some records of a store is training on a store of them.
$SYNTH -q --embed 16 --unet-base 64 --unet-multipliers 1,1,1,1 --unet-cond 32 -o model
shapes=${SYNTH%/*}/shapes
$shapes -q -o images -n 20 --size 32 --pairs pairs.tsv
cut -f 1 pairs.tsv >all
ccld-encode -q -m model --size 64 --shard-size 6 -o store <all
awk 'NR % 3 != 0' all >some
awk 'NR % 3 == 0' all | sed 's:^:.//:' >others
ccld-encode -q -m model --size 64 -o few <some
fit="ccld-fit -q --threads 1 -b 2 --init-from model/diffusion.safetensors --autoencoder-scale 1 --seed 3"
$fit few -o few-run --steps 4
$fit store -o only --only some --steps 2
tr '\n' '\0' <others >others0
$fit store -o except --except others0 --steps 4
mkdir elsewhere
(cd elsewhere && ccld-fit -q --threads 1 --resume ../only --steps 4)
cmp only/latest/raw.safetensors few-run/latest/raw.safetensors
cmp except/latest/raw.safetensors few-run/latest/raw.safetensors
tr -d '\t' <only/latest/state.json | grep '"records"'
try() {
    status=0
    "$@" || status=$?
    echo status $status
}
head -n 3 some >some.new && mv some.new some
try ccld-fit -q --threads 1 --resume only --steps 5
try $fit store -o new --only nowhere --steps 1
try $fit store -o new --only pairs.tsv --steps 1
try $fit store -o new --only some --except some --steps 1
# Paths that match nothing are counted: absolute ones, and lines of ccld-shards ls.
(head -n 3 all && sed "s:^:$PWD/:" all) | head -n 5 >mixed
try $fit store -o absolute --except mixed --steps 1 2>err
grep -v overfit err >&2
(head -n 3 all && echo nowhere) >mixed
try $fit store -o ranks --only mixed --steps 1 --devices 2 -b 1 2>err
grep -v overfit err >&2
ccld-shards ls store | head -n 5 >lines
try $fit store -o new --only lines --steps 1
try $fit store -o new --except all --steps 1
