# Generates captioned images of colored shapes, trains all three networks on them from scratch and samples a grid. On two cores
# this takes about nine hours:
#   make all build/tests/synth/shapes && make -f pipelines/shapes.mk BIN=build OUT=build/world
# Every stage is a goal: pictures autoencoder cloob latents diffusion samples grid; diffusion.mk explains products and resuming.
# Some combinations of shape and color never occur in the training images; `make bench-fidelity MODEL=build/world/model`
# measures how well the model draws them. The U-Net is trained on images alone.
BIN ?= build
OUT ?= build/world
SHAPES ?= $(BIN)/tests/synth/shapes
include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT SHAPES PROMPTS)

# The defaults made models/small; its README.md has the results.
COUNT ?= 120000
# Scenes after these. The U-Net's further stages also train on those that contain the shape that is hardest to draw.
COUNT_MORE ?= 400000
HARDEST ?= flower
SIZE ?= 64
HOLDOUT ?= 256
HOLDOUT_CLOOB ?= 1024
STEPS_AUTOENCODER ?= 8000
STEPS_CLOOB ?= 25000
STEPS_CLOSER ?= 2500
STEPS_TEXTS ?= 2500
STEPS_SINGLE ?= 1500
STEPS_DIFFUSION ?= 36000
STEPS_NOISED ?= 28000
STEPS_BETWEEN ?= 24000
BATCH_AUTOENCODER ?= 8
BATCH_CLOOB ?= 128
BATCH_DIFFUSION ?= 32
LR_AUTOENCODER ?= 5e-4
LR_CLOOB ?= 1e-3
LR_DIFFUSION ?= 6e-4
SCORE_IMAGES ?= 256
SCORE_EVERY ?= 2000
# 1,695,271, 1,526,016 and 3,990,028 parameters, 14.5 MB in fp16; latents are 4x16x16.
AUTOENCODER ?= --base-channels 32 --channel-multipliers 1,2,3 --blocks 1 --norm-groups 8 --latent-channels 4 --kl-weight 5e-3 \
    --lr-schedule cosine --warmup 200 --holdout-every 500 --demo-every 500
CLOOB ?= --image-size 64 --patch-size 16 --width 128 --layers 4 --text-width 128 --text-layers 2 --context 48 \
    --vocabulary 1536 --embed 128 --lr-schedule cosine --warmup 300 --holdout-every 500
CLOSER ?= --seed 2 --scale-hopfield 4 --lr 5e-4 --lr-schedule cosine --warmup 50 --holdout-every 100
TEXTS ?= --seed 3 -b 256 --scale-hopfield 4 --lr 5e-4 --lr-schedule cosine --warmup 50 --holdout-every 100
SINGLE ?= --seed 4 -b 256 --scale-hopfield 4 --lr 1e-3 --lr-schedule cosine --warmup 50 --holdout-every 100
DIFFUSION ?= --base-channels 16 --channel-multipliers 4,4,4,4 --mapping-width 128 --lr-schedule cosine --warmup 300 \
    --holdout-every 2000
NOISED ?= --seed 2 --embed-noise 0.25 --lr 5e-4 --lr-schedule cosine --warmup 300 --holdout-every 2000
BETWEEN ?= --seed 3 --embed-noise 0.15 --embed-neighbours 16 --lr 5e-4 --lr-schedule cosine --warmup 300 \
    --holdout-every 2000
# Prompts, one per line, samples of each, and how to sample them.
PROMPTS ?= pipelines/shapes-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3
# What ccld-plms does by default with this model: it guides a little later, which varies the backgrounds.
METADATA_DIFFUSION ?= guidance_start=0.92

# Colors are so easy to tell apart that CLOOB does not learn shapes while colors suffice. Until its second stage, two in three
# captions therefore omit them.
CLOOB_PAIRS ?= $(OUT)/pairs-terse.tsv
# The difference between a blue star on white and a white star on blue is learned last, and from images of a single object.
# Three in four images of the text tower's last stage are such.
SINGLE_PAIRS ?= $(OUT)/pairs-single.tsv
GENERATOR = $(SHAPES)
include $(dir $(lastword $(MAKEFILE_LIST)))generated.mk

# The names of shapes or colors as a regular expression for awk.
names = "$$($(SHAPES) --list $(1) | paste -s -d '|')"
$(OUT)/pairs-terse.tsv: $(OUT)/pairs.tsv
	awk -F '\t' -v OFS='\t' -v colours=$(call names,colours) \
	    '!length(colours) { exit 1 } \
	    NR % 3 { gsub("an (" colours ") ", "a ", $$2); gsub("(" colours ") ", "", $$2) } 1' $< >$@.part && mv $@.part $@

$(OUT)/pairs-single.tsv: $(OUT)/pairs.tsv
	awk -F '\t' -v shapes=$(call names,shapes) \
	    '!length(shapes) { exit 1 } { things = gsub(shapes, "&", $$2) } \
	    things == 1 || NR % 4 == 0 { print $$1 "\t" $$2 }' $< >$@.part && mv $@.part $@

settings_more = $(strip -n $(COUNT_MORE) --first $(COUNT) --size $(SIZE) --seed $(SEED) --split train --only $(HARDEST))
$(OUT)/more/pairs.tsv: $(OUT)/settings/more
	@mkdir -p $(@D)
	$(SHAPES) -o $(OUT)/more/pictures $(settings_more) --pairs $@ $(COMPUTE)
