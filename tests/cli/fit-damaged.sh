# Damaged records are skipped like unreadable images: in training, in held-out evaluation, on several ranks and after a resume.
$SYNTH -q --embed 32 --unet-cond 64 -o model
"${SYNTH%/*}/shapes" -q -o images -n 40 --size 32 --pairs pairs.tsv
cut -f 1 pairs.tsv | ccld-encode -q -m model --size 64 -o shards
cp -r shards good
damage() { # NUMBER...: changes the frames of these images, which end before their labels; pages hold old copies, too
    for number in "$@"; do
        for at in $(grep -abPo "(?s)\x5c\x2a\x4d\x18.{4}images/0000$number.png" shards/00000.mdb | cut -d : -f 1); do
            printf '@@@' | dd of=shards/00000.mdb bs=1 seek=$((at - 300)) conv=notrunc 2>/dev/null
        done
    done
}
damage 03 17
begin="ccld-fit --init-from model/diffusion.safetensors --holdout 8 --log-every 1"
$begin -q -b 2 --accumulate 2 shards --steps 14 -o run 2>err || echo $?
sort err >&2
tail -n 1 run/metrics.jsonl | grep -o '"unreadable":[0-9]*' || tail -n 2 run/metrics.jsonl | grep -o '"unreadable":[0-9]*'
ccld-fit -q --resume run --steps 24 2>err || echo $?
grep -c 'damaged record' err
# Ranks agree on what is damaged, and train as one does.
$begin -q shards -b 2 --devices 2 --steps 24 -o ranks 2>err || echo $?
grep -o "'images/.*png'" err | sort -u
for file in diffusion raw optimizer; do
    cmp run/latest/$file.safetensors ranks/latest/$file.safetensors
done
# Too many: the run ends with a checkpoint, from which it goes on over a whole store.
damage 01 02 05 06 08 09 11 13 20 21 22 25
for ranks in 1 2; do
    $begin shards -b $((4 / ranks)) --devices $ranks --steps 100 -o many-$ranks 2>err || echo $?
    tail -n 1 err | sed 's/step [0-9]*/step N/; s/[0-9]* of 40/N of 40/'
    ccld-fit -q --resume many-$ranks good --steps 8 2>err || cat err
done
$begin -q -b 4 shards --steps 20 --max-unreadable 0.5 -o half 2>err && grep -c 'damaged record' err
