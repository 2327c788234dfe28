#!/bin/bash
# The recipes in pipelines/, with sizes that let them finish within seconds. shapes.mk, with make and everything it runs killed
# by SIGKILL in the middle of its stages, must produce the same files as an uninterrupted run, byte for byte. Prints TAP.
# usage: [BUILD=build] tests/pipelines.sh
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
build=$(cd "$build" && pwd) || exit 2
export LC_ALL=C
unset CCLD_MODEL MAKEFLAGS MAKELEVEL MFLAGS

work=$(mktemp -d) || exit 2
running=
trap '[ -z "$running" ] || kill -KILL -- -$running 2>/dev/null; rm -rf "$work"' EXIT
log=$work/log
: >"$log"

log_lines=8
. tests/support/tap.sh

recipe() { # NAME OUT ARGUMENT...
    local name=$1 out=$2
    shift 2
    make --no-print-directory -f "pipelines/$name.mk" BIN="$build" OUT="$work/$out" COMPUTE='-q --device cpu --threads 1' \
        CHECKPOINT_EVERY=2 SAMPLES=1 STEPS_SAMPLES=3 BATCH_DIFFUSION=4 \
        DIFFUSION='--base-channels 16 --channel-multipliers 4,4,4,4 --mapping-width 32' "$@" >>"$log" 2>&1
}
world() { # RECIPE OUT ARGUMENT...: a generated world, small
    local name=$1 out=$2
    shift 2
    recipe "$name" "$out" COUNT=120 SIZE=32 HOLDOUT=6 HOLDOUT_CLOOB=8 STEPS_AUTOENCODER=20 STEPS_CLOOB=40 \
        SCORE_IMAGES=6 SCORE_EVERY=4 STEPS_CLOSER=4 STEPS_TEXTS=4 STEPS_DIFFUSION=16 STEPS_NOISED=6 STEPS_BETWEEN=6 \
        BATCH_AUTOENCODER=2 BATCH_CLOOB=8 LR_AUTOENCODER=1e-3 \
        AUTOENCODER='--base-channels 32 --channel-multipliers 1,1,1 --blocks 1 --latent-channels 4' \
        CLOOB='--image-size 32 --patch-size 16 --width 64 --layers 1 --text-width 64 --text-layers 1 --context 48
            --vocabulary 600 --embed 32 --warmup 5' CLOSER='--scale-hopfield 4 --warmup 2' \
        TEXTS='--scale-hopfield 4 --warmup 2' NOISED='--embed-noise 0.25' BETWEEN='--embed-noise 0.25 --embed-neighbours 4' "$@"
}
shapes() { # OUT ARGUMENT...
    local out=$1
    shift
    world shapes "$out" COUNT_MORE=40 STEPS_SINGLE=4 SINGLE='--warmup 2' "$@"
}

# Kills make and its programs once COMMAND is true; sets `product` to 1 if they had finished before.
kills=0
kill_when() { # FILE-OF-THE-STAGE GOAL COMMAND...
    local file=$1 goal=$2
    shift 2
    set -m
    shapes killed "$goal" &
    running=$!
    set +m
    until "$@"; do
        kill -0 $running 2>/dev/null || break
        sleep 0.002 # a stage may last a tenth of a second
    done
    kill -KILL -- -$running 2>/dev/null
    wait $running 2>/dev/null
    running=
    product=0
    if [ -e "$work/killed/$file" ]; then product=1; else kills=$((kills + 1)); fi
}
exists() { [ -e "$work/killed/$1" ]; }
moved() { # RUN CHECKPOINT: whether the last checkpoint is another one
    exists "$1/latest" && [ "$(readlink "$work/killed/$1/latest")" != "$2" ]
}

shapes whole
ok $? 'shapes.mk makes a model and a grid of samples'
(cd "$work/whole" && ls pairs.tsv pictures.list shards.txt model/{autoencoder,cloob,diffusion}.safetensors samples.ppm grid.png) \
    >>"$log" 2>&1
ok $? 'and keeps the products of all stages'
cmp "$work/whole/diffusion-between/best/score.json" <(cat "$work"/whole/diffusion-between/step-*/score.json | awk -F 'kernel":' '
    NR == 1 || $2 + 0 < least { least = $2 + 0; line = $0 } END { print line }') >>"$log" 2>&1
ok $? 'and the best checkpoint of the last stage'
! grep -v flower "$work/whole/more/pairs.tsv" >>"$log" && grep -q . "$work/whole/more/shards.txt"
ok $? 'with more images of the hardest shape'
! grep -q "$(printf '\t')" "$work/whole/pictures.list" && cut -f 1 "$work/whole/pairs.tsv" | cmp - "$work/whole/pictures.list"
ok $? 'the diffusion model is trained without captions'

kill_when pairs.tsv pictures exists pictures/000010.png
for stage in autoencoder cloob diffusion; do
    [ $stage != diffusion ] || kill_when shards.txt latents exists shards/00000.mdb
    # Captions are not needed any more.
    [ $stage != diffusion ] || rm -f "$work"/killed/pictures/*.txt
    kill_when model/$stage.safetensors $stage exists $stage
    middle=$product
    for checkpoint in '' 2; do
        kill_when model/$stage.safetensors $stage moved $stage "${checkpoint:+$(readlink "$work/killed/$stage/latest")}"
        [ $product = 0 ] || middle=1
    done
    exists $stage/latest || middle=1
    ok $middle "training the $stage is killed three times before its end ($(readlink "$work/killed/$stage/latest"))"
done
kill_when model/diffusion.safetensors diffusion exists diffusion-noised/latest
kill_when model/diffusion.safetensors diffusion moved diffusion-between ''
kill_when samples.ppm samples exists samples.ppm.part
shapes killed
ok $? "after $kills kills the same command finishes"
for file in model/{autoencoder,cloob,diffusion}.safetensors samples.ppm grid.png; do
    cmp "$work/whole/$file" "$work/killed/$file" >>"$log" 2>&1
    ok $? "with the same $file"
done

touch "$work/before"
shapes whole && [ -z "$(find "$work/whole" -newer "$work/before" -type f)" ]
ok $? 'finished stages are left alone'
cp "$work/whole/model/diffusion.safetensors" "$work/before"
# The last checkpoint goes on here: the best one may stay the best.
shapes whole STEPS_DIFFUSION=18 STEPS_NOISED=8 STEPS_BETWEEN=8 SCORE_IMAGES= &&
    [ "$(readlink "$work/whole/diffusion/latest")" = step-00000018 ] &&
    [ "$(readlink "$work/whole/diffusion-noised/latest")" = step-00000008 ] &&
    [ "$(readlink "$work/whole/diffusion-between/latest")" = step-00000008 ] &&
    [ "$(readlink "$work/whole/cloob/latest")" = step-00000040 ] &&
    ! cmp -s "$work/whole/model/diffusion.safetensors" "$work/before"
ok $? 'with more steps, stages resume'

# A program stopped by a signal exits with 0, but its stage is not finished.
set -m
shapes whole STEPS_DIFFUSION=5000 &
running=$!
set +m
fit_of() { awk -v group="$1" '$2 == "(ccld-fit)" && $5 == group { print $1 }' /proc/[0-9]*/stat 2>/dev/null; }
until pid=$(fit_of $running); [ -n "$pid" ] && [ "$(readlink "$work/whole/diffusion/latest")" != step-00000018 ]; do
    kill -0 $running 2>/dev/null || break
    sleep 0.05
done
[ -z "$pid" ] || kill -TERM $pid
wait $running
[ $? != 0 ] && grep -q 'not at step 5000: run the same command again' "$log"
ok $? 'a stage stopped by a signal is not taken for finished'
running=

title='things.mk makes a model and a grid of samples, too'
if [ -x "$build/tests/synth/things" ] && "$build/tests/synth/things" -q -o "$work/font" -n 0 >>"$log" 2>&1; then
    world things things && [ -s "$work/things/grid.png" ] && [ "$(wc -l <"$work/things/pairs.tsv")" = 120 ]
    ok $? "$title"
else
    number=$((number + 1))
    echo "ok $number - $title # skip no FreeType or no Noto Color Emoji"
fi

# The first line of each text is the caption; images without one are left out.
mkdir -p "$work/stamps/food"
cp tests/golden/data/images/small.png "$work/stamps/food/apple.png"
cp tests/golden/data/images/small.png "$work/stamps/food/nameless.png"
printf 'A red\tapple.\r\nde.utf8=Ein roter Apfel.\n' >"$work/stamps/food/apple.txt"
printf '%s\t%s\n' "$work/stamps/food/apple.png" 'A red apple.' >"$work/pairs"
recipe stamps stamped STAMPS="$work/stamps" pictures && cmp "$work/stamped/pairs.tsv" "$work/pairs" >>"$log"
ok $? 'stamps.mk takes captions from the text files beside the images'
! recipe stamps none STAMPS="$work/nowhere" pictures && grep -q "no folder '$work/nowhere': stamps.mk says" "$log"
ok $? 'and reports a missing folder'

"$build/tests/synth/synth-model" -q --embed 32 --unet-cond 64 -o "$work/model" >>"$log" 2>&1
sum=$(sha256sum <"$work/model/cloob.safetensors")
sum=${sum%% *}
cp "$work/model/cloob.safetensors" "$work/cloob-$sum.pkl"
cp "$work/model/cloob.safetensors" "$work/cloob-${sum%?????}00000.pkl"
mkdir "$work/photos"
ln -s photos "$work/coco  \$5 photos" # a link, with blanks in its name
for i in 1 2 3 4 5 6 7 8; do
    cp "$(find tests/golden/data/images -maxdepth 1 -name '*.jpg' | sort | head -n 1)" "$work/photos/$i.jpg"
done
coco() { # OUT CLOOB ARGUMENT...
    local out=$1 cloob=$2
    shift 2
    recipe coco "$out" PHOTOS="$work/coco  \$5 photos" AUTOENCODER="$work/model/autoencoder.safetensors" CLOOB="$work/$cloob" SIZE=64 \
        HOLDOUT=1 STEPS_DIFFUSION=2 "$@"
}
coco coco "cloob-$sum.pkl" && [ -s "$work/coco/grid.png" ] && [ -s "$work/coco/model/diffusion.safetensors" ]
ok $? 'coco.mk trains with the given networks and samples images'
coco coco-2 "cloob-$sum.pkl" DEVICES=2 BATCH_DIFFUSION=2 COMPUTE='-q --device cpu --threads 2' && [ -s "$work/coco-2/grid.png" ] &&
    [ -e "$work/coco-2/shards/parts/1" ] && ! [ -e "$work/coco-2/shards/00000.mdb" ] &&
    grep -q '"ranks"' "$work/coco-2/diffusion/latest/state.json"
ok $? 'with DEVICES=2, two processes encode and train'
coco coco "cloob-$sum.pkl" DEVICES=2 BATCH_DIFFUSION=2 STEPS_DIFFUSION=3 && [ "$(readlink "$work/coco/diffusion/latest")" = step-00000003 ]
ok $? 'also in a run that began without DEVICES'
tar -C "$work" -cf "$work/coco.tar" photos
recipe coco coco-3 PHOTOS="$work/coco.tar" AUTOENCODER="$work/model/autoencoder.safetensors" CLOOB="$work/cloob-$sum.pkl" SIZE=64 \
    HOLDOUT=1 STEPS_DIFFUSION=1 ENCODE='--embed-dtype f16' && "$build/ccld-shards" ls "$work/coco-3/shards" | grep -q 'coco.tar!/photos/3.jpg' &&
    "$build/ccld-shards" stat "$work/coco-3/shards" | grep -q '^embeds.*F16'
ok $? 'it takes an archive, and options for ccld-encode'
! coco wrong "cloob-${sum%?????}00000.pkl" check && grep -q "SHA-256 is $sum, expected ${sum%?????}00000" "$log" &&
    ! [ -e "$work/wrong/model/cloob.pkl" ]
ok $? 'it refuses a CLOOB whose sum differs from its name'
! coco other "cloob-$sum.pkl" check SHA256_AUTOENCODER="$sum" && [ ! -e "$work/other/model/autoencoder.safetensors" ]
ok $? 'and an autoencoder whose sum differs from the one given'
! recipe coco wrong PHOTOS="$work/photos" && grep -q 'no autoencoder: set AUTOENCODER=FILE' "$log"
ok $? 'and reports a missing variable'


finetune() { # ARGUMENT...
    CCLD_DEVICE=cpu make --no-print-directory -f pipelines/finetune.mk BIN="$build" MODEL="$work/small" PHOTOS="$work/$photos" \
        OUT="$work/finetuned" BATCH=1 HOLDOUT=1 FIT=-q "$@" >>"$log" 2>&1
}
mkdir "$work/small"
# A folder as people have them: a link, with blanks and signs in its name and with other files than images.
photos='it'"'"'s  my $5 $(photos)'
mkdir "$work/real photos"
cp "$work"/photos/* "$work/real photos"
for i in a b c d e f; do echo "$i" >"$work/real photos/note $i.txt"; done
ln -s "real photos" "$work/$photos"
cp "$work"/model/{autoencoder,cloob,diffusion}.safetensors "$work/small"
finetune STEPS=2 DEVICES=2 && [ -e "$work/finetuned/shards/parts/1" ] && [ -s "$work/finetuned/model/diffusion.safetensors" ]
ok $? 'finetune.mk encodes and trains with two processes'
finetune STEPS=3 DEVICES=2 && finetune STEPS=4 &&
    [ "$(readlink "$work/finetuned/run/latest")" = step-00000004 ] && [ "$(ls "$work/finetuned/shards/parts")" = "$(printf '0\n1')" ]
ok $? 'and resumes with two and with one'
! finetune STEPS=5 LR=1e-4 && tail -n 3 "$log" | grep -q "finetuned/run was begun with LR=3e-5 BATCH=1 HOLDOUT=1 MODEL=.*: set these again" &&
    ! finetune STEPS=5 BATCH=2 && [ "$(readlink "$work/finetuned/run/latest")" = step-00000004 ] && finetune STEPS=4 FIT='-q --lr 1e-4'
ok $? 'and refuses other settings'

clean() { # ARGUMENT...
    CCLD_DEVICE=cpu make --no-print-directory -f pipelines/clean.mk BIN="$build" MODEL="$work/small" PHOTOS="$work/$photos" \
        OUT="$work/clean" BATCH=1 HOLDOUT=1 FIT=-q "$@" >>"$log" 2>&1
}
listed() { "$build/ccld-shards" ls "$work/clean/shards" | wc -l; }
cp tests/golden/data/images/rgb.png tests/golden/data/images/gray.jpg "$work/real photos"
printf 'a house\t1\n\na tree\t1\n' >"$work/texts"
clean lists UNWANTED="$work/texts" && [ "$(cut -f 1 "$work/clean/duplicates.tsv" | uniq -c | head -n 1 | tr -d ' ')" = '81' ] &&
    [ ! -s "$work/clean/unwanted.tsv" ] && [ "$(listed)" = 10 ]
ok $? 'clean.mk lists duplicates and removes nothing'
clean STEPS=2 DUPLICATES=1e-6 UNWANTED="$work/texts" && [ "$(listed)" = 3 ] && [ "$(wc -l <"$work/clean/cleaned")" = 7 ] &&
    [ -s "$work/clean/model/diffusion.safetensors" ]
ok $? 'and trains on what is left of them'
clean STEPS=3 && [ "$(listed)" = 3 ] && [ "$(readlink "$work/clean/run/latest")" = step-00000003 ] &&
    grep -q "clean/cleaned was made with DUPLICATES=1e-6 UNWANTED=.*texts (checksum [0-9]*) ABOVE=0.3: delete it to choose again" "$log"
ok $? 'and resumes without encoding them again, and says what was chosen'
rm "$work/clean/cleaned"
clean STEPS=4 DUPLICATES= && [ "$(listed)" = 10 ]
ok $? 'unless the list of what was removed is deleted'
rm "$work/clean/cleaned"
score=$("$build/ccld-find" -q --device cpu -m "$work/small" "$work/clean/shards" 'a house' | awk 'END { print $1 + 1e-6 }')
printf 'a house' >"$work/texts" # without an end of line
clean STEPS=5 DUPLICATES= UNWANTED="$work/texts" ABOVE="$score" && [ "$(listed)" = $((10 - $(wc -l <"$work/clean/cleaned"))) ] &&
    [ -s "$work/clean/cleaned" ]
ok $? 'and removes images that fit an unwanted text'
echo ' or a hut' >>"$work/texts"
clean STEPS=5 DUPLICATES= UNWANTED="$work/texts" ABOVE="$score" && tail -n 20 "$log" | grep -q 'cleaned was made with'
ok $? 'and says that the texts are others now'
rm "$work/clean/cleaned"
! clean STEPS=6 UNWANTED="$work/nowhere" && [ ! -e "$work/clean/cleaned" ] && [ "$(listed)" = 10 ]
ok $? 'and removes nothing if a list cannot be made'

finds=
for recipe in clean finetune coco stamps shapes things demo; do
    make -n -f "pipelines/$recipe.mk" OUT='my model' PHOTOS=x MODEL="$work/small" >"$log" 2>&1 && finds="$recipe.mk"
    grep -q "OUT has blanks in it: 'my model'" "$log" || finds+=" $recipe.mk"
done
[ -z "$finds" ]
ok $? "recipes refuse an OUT with blanks${finds:+, but not $finds}"

echo "1..$number"
exit $((failed > 0))
