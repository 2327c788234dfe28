# A small world from nothing: pictures of coloured shapes with captions, the three networks trained on them, and a sheet of
# their own pictures. On two cores it is meant to take some hours, on a GPU minutes:
#   make all build/tests/synth/shapes && make -f pipelines/shapes.mk BIN=build OUT=build/world
# Stages are goals of their own: pictures autoencoder cloob latents diffusion samples grid; see diffusion.mk for what is
# kept and how it goes on. Held-out combinations of shape and colour never occur in the pictures; `make bench-fidelity
# MODEL=build/world/model` looks at what the model makes of them. Diffusion is trained on pictures alone.
BIN ?= build
OUT ?= build/world
SHAPES ?= $(BIN)/tests/synth/shapes

# Guesses, all of them: how much data, how many steps, of how many pictures, at which rate.
COUNT ?= 20000
SIZE ?= 64
HOLDOUT ?= 256
HOLDOUT_CLOOB ?= 1024
STEPS_AUTOENCODER ?= 10000
STEPS_CLOOB ?= 8000
STEPS_DIFFUSION ?= 20000
BATCH_AUTOENCODER ?= 16
BATCH_CLOOB ?= 128
BATCH_DIFFUSION ?= 64
LR_AUTOENCODER ?= 3e-4
LR_CLOOB ?= 5e-4
LR_DIFFUSION ?= 3e-4
# 1,695,271, 1,656,704 and 3,990,028 parameters, 14.7 MB as they are kept, in fp16; latents are 4x16x16.
AUTOENCODER ?= --base-channels 32 --channel-multipliers 1,2,3 --blocks 1 --latent-channels 4 --lr-schedule cosine \
    --warmup 200
CLOOB ?= --image-size 64 --patch-size 8 --width 128 --layers 4 --text-width 128 --text-layers 3 --context 48 \
    --vocabulary 1536 --embed 128 --lr-schedule cosine --warmup 500
DIFFUSION ?= --base-channels 16 --channel-multipliers 4,4,4,4 --mapping-width 128 --lr-schedule cosine --warmup 500
# Prompts, a line each, pictures of each, and how they are made.
PROMPTS ?= pipelines/shapes-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3

include $(dir $(lastword $(MAKEFILE_LIST)))train.mk

# Pictures that are there already are checked and kept.
settings_pictures = $(strip -n $(COUNT) --size $(SIZE) --seed $(SEED) --split train)
$(OUT)/pairs.tsv: $(OUT)/settings/pictures
	$(SHAPES) -o $(OUT)/pictures $(settings_pictures) --pairs $@ $(COMPUTE)
