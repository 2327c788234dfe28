$SYNTH -q -o model
ccld-encode -m model --size 64 -o store "$GOLDEN"/images/*.jpg "$GOLDEN"/images/rgba.png
ccld-shards verify store
ccld-shards ls store | sed 's,	.*/,	,'
ccld-shards stat store | sed -n '/^records/p; /^shards/p; /^finished/p; /^latents/,/^preproc/p'
ccld-shards stat store | grep -c '^\(autoencoder\|cloob\)  *[0-9a-f]\{32\} [a-z]*.safetensors$'
# A safetensors file: the length of its header, then the header.
ccld-shards cat store 4 | tail -c +9 | head -c 1
