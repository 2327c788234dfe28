# Training the text tower alone from a file in fp16 leaves stores valid: the image tower is the same in the fp32 of a run.
$SYNTH -q -o model
mkdir half
for part in autoencoder cloob diffusion; do
    ccld-weights -q convert model/$part.safetensors --dtype f16 -o half/$part.safetensors
done
"${SYNTH%/*}/shapes" -q -o images -n 6 --pairs pairs
cut -f 1 pairs | ccld-encode -q -m half --size 64 -o store
fit="ccld-fit-cloob -q --init-from half/cloob.safetensors --steps 2 -b 4 --holdout 0"
$fit -o run --text-only <pairs
ccld-find -q -m half --cloob run store "a red circle" | wc -l
cut -f 1 pairs | ccld-encode -m half --cloob run --size 64 -o store
$fit -o other <pairs
ccld-find -q -m half --cloob other store "a red circle" || echo $?
