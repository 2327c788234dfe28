#!/bin/bash
# pipelines/published.mk makes a model folder of downloaded files: small checkpoints stand in for the published ones, and a
# variable for the published SHA-256. Prints TAP.
# usage: [BUILD=build] tests/published.sh
set -u
cd "$(dirname "$0")/.." || exit 2
build=${BUILD:-build}
build=$(cd "$build" && pwd) || exit 2
export LC_ALL=C
unset CCLD_MODEL MAKEFLAGS MAKELEVEL MFLAGS

work=$(mktemp -d) || exit 2
elsewhere=
trap 'rm -rf "$work" ${elsewhere:+"$elsewhere"}' EXIT
log=$work/log
: >"$log"
. tests/support/tap.sh

unet=yfcc-latent-diffusion-f8-e2-s250k.ckpt
cloob=cloob_laion_400m_vit_b_16_16_epochs-405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892.pkl
kl=kl-f8.zip
"$build/tests/synth/synth-model" -q -o "$work/synth" &&
    "$build/ccld-weights" -q convert "$work/synth/autoencoder.safetensors" --as torch -o "$work/$kl" || exit 2
checkpoints=tests/golden/data/checkpoints

download() { # FOLDER: fills it with stand-ins
    mkdir -p "$1"
    cp $checkpoints/lightning.ckpt "$1/$unet"
    cp $checkpoints/cloob_tiny_protocol4.pkl "$1/$cloob"
    cp "$work/$kl" "$1/$kl"
}
sum=$(sha256sum <$checkpoints/cloob_tiny_protocol4.pkl)
sum=${sum%% *}
published() { # DOWNLOADS MODEL ARGUMENT...
    local downloads=$1 model=$2
    shift 2
    make --no-print-directory -f pipelines/published.mk BIN="$build" SHA256_CLOOB="$sum" DOWNLOADS="$downloads" \
        MODEL="$model" "$@" >"$log" 2>&1
}
told() { # PATTERN: exactly one line of the log matches
    [ "$(grep -c "$1" "$log")" = 1 ]
}
fingerprint() { # FOLDER: names, sizes, times and contents
    (cd "$1" && find . -type f -printf '%p %s %T@\n' | sort && find . -type f | sort | xargs -d '\n' sha256sum)
}

downloads="$work/my downloads"
model="$work/model of mine"
download "$downloads"
fingerprint "$downloads" >"$work/before"
published "$downloads" "$model"
ok $? 'all files are there, in a folder with a space in its name'
[ "$downloads/$unet" -ef "$model/diffusion.ckpt" ] && [ "$downloads/$cloob" -ef "$model/cloob.pkl" ] &&
    [ "$downloads/$kl" -ef "$model/autoencoder.zip" ] && [ "$(ls "$model" | wc -l)" = 3 ]
ok $? 'each is linked under the name that a model folder needs'
told "diffusion.ckpt': U-Net, " && told "cloob.pkl': CLOOB, " && told "autoencoder.zip': KL autoencoder, "
ok $? 'and described'

changes() { find "$model" -printf '%p %i %C@ %T@\n' | sort; }
changes >"$work/changes"
published "$downloads" "$model" && changes | cmp - "$work/changes" >>"$log"
ok $? 'running it again does nothing'
fingerprint "$downloads" | cmp - "$work/before" >"$log" 2>&1
ok $? 'the downloads are untouched'

download "$work/part"
mv "$work/part/$unet" "$work/part/$unet.part"
! published "$work/part" "$work/partial" && told "missing" &&
    told "missing diffusion.ckpt: download https://.*/$unet (mirror: https://mystic.*/$unet) into '$work/part'$"
ok $? 'a missing file is named with its address, its mirror and where to put it'
[ "$(ls "$work/partial" | tr '\n' ' ')" = 'autoencoder.zip cloob.pkl ' ]
ok $? 'and the others are linked'
: >"$work/part/$unet"
! published "$work/part" "$work/partial" && told "missing diffusion.ckpt: "
ok $? 'an empty file is missing, too'
mv "$work/part/$unet.part" "$work/part/$unet"
published "$work/part" "$work/partial" && told "linked '.*diffusion.ckpt'" && told 'linked'
ok $? 'once it is there, the same command completes the model'
! published "$work/nowhere" "$work/none" && [ "$(grep -c '^published.mk: missing' "$log")" = 3 ] && [ ! -e "$work/none" ]
ok $? 'without downloads each file is named, and no folder is made'

! make --no-print-directory -f pipelines/published.mk BIN="$build" DOWNLOADS="$downloads" MODEL="$work/wrong" >"$log" 2>&1 &&
    told "'$downloads/$cloob': SHA-256 is $sum, expected 405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892: "
ok $? 'a wrong checksum is refused with both sums'
[ ! -e "$work/wrong/cloob.pkl" ] && fingerprint "$downloads" | cmp - "$work/before" >>"$log" 2>&1
ok $? 'and its file is not linked'

download "$work/mixed"
cp $checkpoints/kl-f8.zip "$work/mixed/$kl"
head -c 1000 "$downloads/$unet" >"$work/mixed/$unet"
! published "$work/mixed" "$work/mixture" && told "$kl' is not a KL autoencoder: U-Net, " && told "cannot read '.*$unet'" &&
    [ "$(ls "$work/mixture")" = cloob.pkl ]
ok $? 'a file of another network and an incomplete one are refused'

cp -r "$model" "$work/converted"
rm "$work/converted/autoencoder.zip"
cp "$work/synth/autoencoder.safetensors" "$work/converted"
published "$work/nowhere" "$work/converted" && told "autoencoder.safetensors': KL autoencoder, " &&
    [ ! -e "$work/converted/autoencoder.zip" ]
ok $? 'a network that the model has in another format is kept'

published "$downloads" "$work/unbuilt" BIN=nowhere && [ "$(ls "$work/unbuilt" | wc -l)" = 3 ] &&
    told "run 'make', then 'nowhere/ccld-weights ls .*autoencoder.zip'"
ok $? 'without the programs, files are linked and the command to inspect them is printed'
HOME=$work published '~/my downloads' '~/tilde' && [ -e "$work/tilde/cloob.pkl" ]
ok $? 'a leading ~ is the home folder'

name='copies are made where links are impossible'
if elsewhere=$(mktemp -d /dev/shm/published.XXXXXX 2>/dev/null) && [ "$(stat -c %d "$elsewhere")" != "$(stat -c %d "$work")" ]; then
    published "$downloads" "$elsewhere/model" && cmp "$downloads/$kl" "$elsewhere/model/autoencoder.zip" >>"$log" &&
        told "copied '.*$kl' to" && [ "$(ls "$elsewhere/model" | wc -l)" = 3 ]
    ok $? "$name"
else
    ok 0 "$name # SKIP no second file system"
fi

echo "1..$number"
exit $((failed > 0))
