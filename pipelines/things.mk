# Generates captioned images of things (animals, food, vehicles and others), trains all three networks on them from scratch
# and samples a grid. On two cores this takes half a day or more. The generator needs FreeType and the font Noto Color Emoji
# (Debian packages libfreetype-dev and fonts-noto-color-emoji, which `make deps` installs):
#   make all build/tests/synth/things && make -f pipelines/things.mk BIN=build OUT=build/things-world
# Every stage is a goal: pictures autoencoder cloob latents diffusion samples grid; diffusion.mk explains products and resuming.
# Some combinations of two things, or of a thing and a background, never occur in the training images;
# `make bench-fidelity WORLD=things MODEL=build/things-world/model` measures how well the model draws them. The U-Net is trained on
# images alone.
BIN ?= build
OUT ?= build/things-world
THINGS ?= $(BIN)/tests/synth/things
include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT THINGS PROMPTS)

COUNT ?= 240000
SIZE ?= 64
HOLDOUT ?= 256
HOLDOUT_CLOOB ?= 1024
STEPS_AUTOENCODER ?= 9000
STEPS_CLOOB ?= 4000
STEPS_CLOSER ?= 1000
STEPS_TEXTS ?= 800
STEPS_DIFFUSION ?= 100000
STEPS_NOISED ?= 40000
STEPS_BETWEEN ?= 30000
BATCH_AUTOENCODER ?= 16
BATCH_CLOOB ?= 128
BATCH_DIFFUSION ?= 32
LR_AUTOENCODER ?= 1.5e-3
LR_CLOOB ?= 8e-4
LR_DIFFUSION ?= 5e-4
CHECKPOINT_EVERY ?= 1000
SCORE_IMAGES ?= 256
SCORE_EVERY ?= 5000
# 0.7, 3.2 and 10.5 million parameters, 29 MB in fp16; latents are 8x16x16.
# --precision bf16 trains as well, and takes three quarters of the time on AMD's processors with AVX512-BF16.
FASTER ?=
AUTOENCODER ?= --base-channels 16 --channel-multipliers 1,2,4 --blocks 1 --norm-groups 8 --latent-channels 8 --kl-weight 1e-3 \
    --betas 0.9,0.99 --clip-grad 1 --lr-schedule cosine --warmup 200 --holdout-every 1000 --demo-every 3000 $(FASTER)
CLOOB ?= --image-size 64 --patch-size 8 --width 192 --layers 4 --text-width 192 --text-layers 2 --context 40 \
    --vocabulary 2048 --embed 256 --lr-schedule cosine --warmup 500 --holdout-every 500 $(FASTER)
CLOSER ?= --seed 2 --scale-hopfield 4 --lr 4e-4 --lr-schedule cosine --warmup 100 --holdout-every 250 $(FASTER)
TEXTS ?= --seed 3 -b 256 --scale-hopfield 4 --lr 4e-4 --lr-schedule cosine --warmup 100 --holdout-every 200 $(FASTER)
DIFFUSION ?= --base-channels 16 --channel-multipliers 4,4,8,8 --mapping-width 256 --lr-schedule cosine --warmup 500 \
    --holdout-every 5000 $(FASTER)
NOISED ?= --seed 2 --embed-noise 0.25 --lr 4e-4 --lr-schedule cosine --warmup 500 --holdout-every 5000 $(FASTER)
BETWEEN ?= --seed 3 --embed-noise 0.15 --embed-neighbours 16 --lr 4e-4 --lr-schedule cosine --warmup 500 \
    --holdout-every 5000 $(FASTER)
# Prompts, one per line, samples of each, and how to sample them.
PROMPTS ?= pipelines/things-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3
METADATA_DIFFUSION ?= guidance_start=0.92

# Backgrounds are so easy to tell apart that CLOOB does not learn things while backgrounds suffice: it stays at one in sixteen. Until
# its second stage, four in five captions therefore omit them.
CLOOB_PAIRS ?= $(OUT)/pairs-terse.tsv
GENERATOR = $(THINGS)
include $(dir $(lastword $(MAKEFILE_LIST)))generated.mk

# What is said of backgrounds stands behind the things, in two ways, or before them.
$(OUT)/pairs-terse.tsv: $(OUT)/pairs.tsv
	$(THINGS) --list backgrounds >$@.phrases
	awk -F '\t' -v OFS='\t' ' \
	    NR == FNR { behind[" " $$2]; behind[" " $$3]; before[$$4 " "]; next } \
	    FNR % 5 { \
	        for (p in behind) if (substr($$2, length($$2) - length(p) + 1) == p) $$2 = substr($$2, 1, length($$2) - length(p)); \
	        for (p in before) if (index($$2, p) == 1) $$2 = substr($$2, length(p) + 1) \
	    } 1' $@.phrases $< >$@.part && mv $@.part $@
