# Shared by the recipes that train from scratch: from images and the two networks that encode them to a trained diffusion
# model and a grid of its samples. The including makefile sets the sizes and `networks`, two files in $(OUT)/model, and has
# rules for these and for $(OUT)/pictures.list.
#
# A stage's products are files in OUT, its settings are in OUT/settings. After an interruption, the same command resumes each
# stage from its last checkpoint and leaves finished stages alone. With more steps, a stage and those after it resume. For
# another architecture, or after more training of the autoencoder or CLOOB, remove what depends on the old one:
# OUT/autoencoder or OUT/cloob*, OUT/shards, OUT/more/shards and OUT/diffusion*.
SEED ?= 1
# Options for every program that computes, for example --threads 1 or --device cuda.
COMPUTE ?=
# The devices that encode and train together, for --devices: all, a number, or a list of GPUs. Empty: the programs choose. Batch
# sizes are per device: keep the product when you change the number. A store made by one device is a single store, which only one
# device adds to.
DEVICES ?=
CHECKPOINT_EVERY ?= 500
# Checkpoints of the U-Net are scored by this many samples, at most HOLDOUT, every SCORE_EVERY steps (0: CHECKPOINT_EVERY), and the
# best of each stage goes on. Empty: the last one does.
SCORE_IMAGES ?=
SCORE_EVERY ?= 0

# Further options of ccld-encode.
ENCODE ?=
settings_latents = $(strip --size $(SIZE) $(ENCODE))
settings_diffusion = $(strip --steps $(STEPS_DIFFUSION) -b $(BATCH_DIFFUSION) --lr $(LR_DIFFUSION) --holdout $(HOLDOUT) \
    --seed $(SEED) $(DIFFUSION))
# Settings of the U-Net's further stages: steps, options.
further_diffusion = $(strip --steps $(1) -b $(BATCH_DIFFUSION) --holdout $(HOLDOUT) --seed $(SEED) $(2))
settings_diffusion-noised = $(call further_diffusion,$(STEPS_NOISED),$(NOISED))
settings_diffusion-between = $(call further_diffusion,$(STEPS_BETWEEN),$(BETWEEN))
# Steps of the U-Net's second stage, with options NOISED, and of its third, with options BETWEEN; an empty value leaves the stage
# out. If COUNT_MORE is set, both stages also train on the images in more/pictures.list.
STEPS_NOISED ?=
STEPS_BETWEEN ?=
COUNT_MORE ?=
# Entries KEY=VALUE of the metadata of the U-Net's file.
METADATA_DIFFUSION ?=
settings_samples = $(strip --prompts $(PROMPTS) -n $(SAMPLES) --size $(SIZE) --steps $(STEPS_SAMPLES) --guidance $(GUIDANCE) \
    --seed $(SEED))

all: grid
	@echo "Model: $(OUT)/model; samples: $(OUT)/grid.png"
stores = $(OUT)/shards.txt $(if $(COUNT_MORE),$(OUT)/more/shards.txt)
pictures: $(stores:shards.txt=pictures.list)
latents: $(stores)
diffusion model: $(OUT)/model/diffusion.safetensors
samples: $(OUT)/samples.ppm
grid: $(OUT)/grid.png

# Trainers exit with status 0 even if a signal stopped them; only the last checkpoint tells whether a run is finished.
devices = $(if $(DEVICES),--devices $(DEVICES))
begin_or_resume = $$(if [ -e $(1)/latest ]; then echo --resume $(1); else echo -o $(1) $(if $(2),--init-from $(2)); fi) \
    --checkpoint-every $(CHECKPOINT_EVERY) --keep 2 $(COMPUTE) $(devices)
is_finished = @[ "$$(readlink $(1)/latest)" = "$$(printf 'step-%08d' $(2))" ] || { \
    echo "$(1) is at $$(readlink $(1)/latest), not at step $(2): run the same command again to resume" >&2; exit 1; }
scores = $(if $(SCORE_IMAGES),--score-images $(SCORE_IMAGES) --score-every $(SCORE_EVERY) -m $(OUT)/model)
chosen = $(if $(SCORE_IMAGES),best,latest)/diffusion.safetensors
keep_half = $(BIN)/ccld-weights convert $(1) --dtype f16 -o $(2)

$(OUT)/settings/%: export SETTINGS = $(settings_$*)
$(OUT)/settings/%: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' "$$SETTINGS" | cmp -s - $@ || printf '%s\n' "$$SETTINGS" >$@

$(stores): %shards.txt: %pictures.list $(networks) $(OUT)/settings/latents
	$(BIN)/ccld-encode -m $(OUT)/model -o $(@:.txt=) $(settings_latents) $(COMPUTE) \
	    $(if $(wildcard $(@:.txt=)/00000.mdb),,$(devices)) <$<
	$(BIN)/ccld-shards stat $(@:.txt=) >$@.part
	@! grep -q '^finished *no' $@.part || { echo "$(@:.txt=) is not finished: run the same command again to resume" >&2; exit 1; }
	mv $@.part $@

# PROGRAM and its input, the run, its steps, the weights to start from.
define train
	$(BIN)/$(1) $(call begin_or_resume,$(OUT)/$(2),$(4)) $(settings_$(2))
	$(call is_finished,$(OUT)/$(2),$(3))
	readlink $(OUT)/$(2)/latest >$@
endef

$(OUT)/diffusion.txt: $(OUT)/shards.txt $(OUT)/settings/diffusion
	$(call train,ccld-fit $(OUT)/shards $(scores),diffusion,$(STEPS_DIFFUSION))

# Text embeddings lie beside image embeddings. A U-Net trained with --embed-noise treats a text's embedding as that of an image
# that fits it.
$(OUT)/diffusion-noised.txt: $(OUT)/diffusion.txt $(stores) $(OUT)/settings/diffusion-noised
	$(call train,ccld-fit $(stores:.txt=) $(scores),diffusion-noised,$(STEPS_NOISED),$(OUT)/diffusion/$(chosen))

# A prompt that leaves things open has an embedding between those of all images it fits. With --embed-neighbours the U-Net
# learns to draw one of them.
before_between = $(OUT)/diffusion$(if $(STEPS_NOISED),-noised)
$(OUT)/diffusion-between.txt: $(before_between).txt $(stores) $(OUT)/settings/diffusion-between
	$(call train,ccld-fit $(stores:.txt=) $(scores),diffusion-between,$(STEPS_BETWEEN),$(before_between)/$(chosen))

last_diffusion = $(if $(STEPS_BETWEEN),$(OUT)/diffusion-between,$(before_between))
$(OUT)/model/diffusion.safetensors: $(last_diffusion).txt
	$(call keep_half,$(last_diffusion)/$(chosen),$@) $(addprefix --metadata ,$(METADATA_DIFFUSION))

$(OUT)/samples.ppm: $(networks) $(OUT)/model/diffusion.safetensors $(OUT)/settings/samples $(PROMPTS)
	$(BIN)/ccld-plms -m $(OUT)/model $(settings_samples) $(COMPUTE) >$@.part
	mv $@.part $@

$(OUT)/grid.png: $(OUT)/samples.ppm
	$(BIN)/ccld-grid --columns $(SAMPLES) -o $@ $<

FORCE:
.PHONY: all pictures latents diffusion model samples grid FORCE
.SECONDARY:
