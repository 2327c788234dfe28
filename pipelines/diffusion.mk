# What all recipes that train from nothing have in common: from pictures and the two networks that encode them to a trained
# diffusion model and a sheet of its pictures. Who includes this names sizes, makes $(OUT)/pictures.list, and `networks`,
# which are files in $(OUT)/model.
#
# A stage's products are files in OUT, and what it was asked for is in OUT/settings. Whatever is stopped or killed goes on
# when the same command is given again, from its last checkpoint; what is finished is left alone. More steps make a stage
# and those behind it go on; for another network, or after more training of the autoencoder or CLOOB, remove what was made
# with the old one: OUT/autoencoder or OUT/cloob*, OUT/shards, OUT/more/shards and OUT/diffusion*.
SEED ?= 1
# For all programs that compute, such as --threads 1 or --device cuda.
COMPUTE ?=
CHECKPOINT_EVERY ?= 500

settings_latents = --size $(SIZE)
settings_diffusion = $(strip --steps $(STEPS_DIFFUSION) -b $(BATCH_DIFFUSION) --lr $(LR_DIFFUSION) --holdout $(HOLDOUT) \
    --seed $(SEED) $(DIFFUSION))
# Of a training that goes on with the U-Net: steps, options.
further_diffusion = $(strip --steps $(1) -b $(BATCH_DIFFUSION) --holdout $(HOLDOUT) --seed $(SEED) $(2))
settings_diffusion-noised = $(call further_diffusion,$(STEPS_NOISED),$(NOISED))
settings_diffusion-between = $(call further_diffusion,$(STEPS_BETWEEN),$(BETWEEN))
# Steps of a second training of the U-Net, with its own NOISED, and of a third, with its own BETWEEN, none where empty; where
# COUNT_MORE is given they also get the pictures of more/pictures.list.
STEPS_NOISED ?=
STEPS_BETWEEN ?=
COUNT_MORE ?=
settings_samples = $(strip --prompts $(PROMPTS) -n $(SAMPLES) --size $(SIZE) --steps $(STEPS_SAMPLES) --guidance $(GUIDANCE) \
    --seed $(SEED))

all: grid
	@echo "The model is $(OUT)/model, its pictures are $(OUT)/grid.png."
stores = $(OUT)/shards.txt $(if $(COUNT_MORE),$(OUT)/more/shards.txt)
pictures: $(stores:shards.txt=pictures.list)
latents: $(stores)
diffusion model: $(OUT)/model/diffusion.safetensors
samples: $(OUT)/samples.ppm
grid: $(OUT)/grid.png

# Programs end with status 0 when a signal stops them, too: a run is finished where its last step is.
begin_or_resume = $$(if [ -e $(1)/latest ]; then echo --resume $(1); else echo -o $(1) $(if $(2),--init-from $(2)); fi) \
    --checkpoint-every $(CHECKPOINT_EVERY) --keep 2 $(COMPUTE)
is_finished = @[ "$$(readlink $(1)/latest)" = "$$(printf 'step-%08d' $(2))" ] || { \
    echo "$(1) stands at $$(readlink $(1)/latest), not at step $(2): the same command goes on" >&2; exit 1; }
keep_half = $(BIN)/ccld-weights convert $(1) --dtype f16 -o $(2)

$(OUT)/settings/%: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(settings_$*)' | cmp -s - $@ || printf '%s\n' '$(settings_$*)' >$@

$(stores): %shards.txt: %pictures.list $(networks) $(OUT)/settings/latents
	$(BIN)/ccld-encode -m $(OUT)/model -o $(@:.txt=) $(settings_latents) $(COMPUTE) <$<
	$(BIN)/ccld-shards stat $(@:.txt=) >$@.part
	@grep -q '^finished *yes' $@.part || { echo "$(@:.txt=) is not finished: the same command goes on" >&2; exit 1; }
	mv $@.part $@

# Of a program with its input: the run, its steps, the weights it begins with.
define train
	$(BIN)/$(1) $(call begin_or_resume,$(OUT)/$(2),$(4)) $(settings_$(2))
	$(call is_finished,$(OUT)/$(2),$(3))
	readlink $(OUT)/$(2)/latest >$@
endef

$(OUT)/diffusion.txt: $(OUT)/shards.txt $(OUT)/settings/diffusion
	$(call train,ccld-fit $(OUT)/shards,diffusion,$(STEPS_DIFFUSION))

# The embeds of texts lie beside those of pictures. A U-Net that has been shown pictures' embeds with --embed-noise takes a
# text's for that of a picture like it.
$(OUT)/diffusion-noised.txt: $(OUT)/diffusion.txt $(stores) $(OUT)/settings/diffusion-noised
	$(call train,ccld-fit $(stores:.txt=),diffusion-noised,$(STEPS_NOISED),$(OUT)/diffusion/latest/diffusion.safetensors)

# A text that leaves things open is between all pictures that it fits: with --embed-neighbours the U-Net learns what to draw
# there.
before_between = $(OUT)/diffusion$(if $(STEPS_NOISED),-noised)
$(OUT)/diffusion-between.txt: $(before_between).txt $(stores) $(OUT)/settings/diffusion-between
	$(call train,ccld-fit $(stores:.txt=),diffusion-between,$(STEPS_BETWEEN),$(before_between)/latest/diffusion.safetensors)

last_diffusion = $(if $(STEPS_BETWEEN),$(OUT)/diffusion-between,$(before_between))
$(OUT)/model/diffusion.safetensors: $(last_diffusion).txt
	$(call keep_half,$(last_diffusion)/latest/diffusion.safetensors,$@)

$(OUT)/samples.ppm: $(networks) $(OUT)/model/diffusion.safetensors $(OUT)/settings/samples $(PROMPTS)
	$(BIN)/ccld-plms -m $(OUT)/model $(settings_samples) $(COMPUTE) >$@.part
	mv $@.part $@

$(OUT)/grid.png: $(OUT)/samples.ppm
	$(BIN)/ccld-grid --columns $(SAMPLES) -o $@ $<

FORCE:
.PHONY: all pictures latents diffusion model samples grid FORCE
.SECONDARY:
