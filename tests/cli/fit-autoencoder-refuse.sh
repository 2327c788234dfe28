# Data, weights and options that do not fit together are refused before training.
find "$GOLDEN"/images -maxdepth 1 -name '*.*' | sort >list
$SYNTH -q --embed 32 --unet-cond 64 -o model
try() {
    status=0
    ccld-fit-autoencoder -q "$@" <list || status=$?
    echo $status
}
small="--size 32 --base-channels 32 --channel-multipliers 1,2 --blocks 1 -b 4 --steps 1"
: >nothing
status=0
ccld-fit-autoencoder -q -o run $small <nothing || status=$?
echo $status
try -o run $small --holdout 12
try -o run $small --holdout 9
try -o run $small --size 33
try -o run $small -b 1 "$GOLDEN/images/gray.jpg" /nowhere/a.png
try -o run $small -b 1 nowhere
try -o run $small -b 1 list
tar cf a.tar -C "$GOLDEN/images" gray.jpg
try -o run $small -b 1 a.tar!/none.jpg
ls -d run 2>/dev/null || true
status=0
echo /nowhere/a.png | ccld-fit-autoencoder -q -o run $small -b 1 || status=$?
echo $status
ls -d run
rm -r run
try -o run -b 4 --steps 1 --size 32 --init-from model/cloob.safetensors
try -o run -b 4 --steps 1 --size 32 --init-from list
echo an existing run
try -o run $small
try -o run $small
try --resume run --steps 2 --size 64
try --resume run --steps 2 --base-channels 64
try --resume run --steps 2 --decoder-only
try --resume run --steps 2 --pil-compat
try --resume run --steps 2 --init-from run/latest/raw.safetensors
mkdir photos
cp "$GOLDEN/images/gray.jpg" photos
try -o photos $small
ls photos
mkdir lost
cp -R run/latest/ lost/step-00000001
try --resume lost --steps 2
