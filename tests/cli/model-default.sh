# Which model is used is said once when nobody has named one; a run can be named as a model.
photo=$GOLDEN/images/gray.jpg
"${SYNTH%/*}/shapes" -q -o images -n 6 >listed
find images -name '*.png' | sort | ccld-encode -o store
ccld-plms --steps 1 --size 64 x | wc -c
echo one network of a file
ccld-plms --steps 1 --checkpoint "$(dirname "$(command -v ccld-plms)")/models/small/diffusion.safetensors" x | wc -c
echo quiet
ccld-plms -q --steps 1 x | wc -c
echo a photograph, and several
ccld-encode -o photographs "$photo" "$GOLDEN"/images/*.png
echo a run
ccld-fit -q -o run store --steps 2 -b 3 --accumulate 1 --holdout 0 --base-channels 64 --channel-multipliers 1,1,1,1
ccld-plms -m run --steps 1 x >expected
ccld-plms -q --checkpoint run --steps 1 x | cmp - expected
ccld-plms -q --checkpoint run/ --steps 1 x | cmp - expected
ccld-plms -q -m run/latest --steps 1 x | cmp - expected
ccld-plms -q --checkpoint run/step-00000002/diffusion.safetensors --steps 1 x >got
ccld-plms -q --checkpoint run/latest/raw.safetensors --steps 1 x >raw
ccld-plms -q --checkpoint run --weights raw --steps 1 x | cmp - raw
ccld-plms -q -m run/latest --weights raw --steps 1 x | cmp - raw
cmp -s raw expected || echo 'the raw weights are others'
ccld-fit -q -o finetuned store --init-from run --steps 1 -b 3 --accumulate 1 --holdout 0
ls run/latest/ finetuned/latest/ | grep diffusion
ccld-plms -q --autoencoder run x >got || echo $?
mkdir empty
ccld-plms -m empty x >got || echo $?
ccld-fit -q -o other store --init-from empty || echo $?
CCLD_MODEL=nowhere ccld-plms -m run x >got || echo $?
