# From image-caption pairs to three trained networks and a grid of samples, for shapes.mk and stamps.mk. They set the sizes and
# make $(OUT)/pairs.tsv, whose lines are path, tab, caption. diffusion.mk explains resuming.
settings_autoencoder = $(strip --size $(SIZE) --steps $(STEPS_AUTOENCODER) -b $(BATCH_AUTOENCODER) --lr $(LR_AUTOENCODER) \
    --holdout $(HOLDOUT) --seed $(SEED) $(AUTOENCODER))
settings_cloob = $(strip --size $(SIZE) --steps $(STEPS_CLOOB) -b $(BATCH_CLOOB) --lr $(LR_CLOOB) --holdout $(HOLDOUT_CLOOB) \
    --seed $(SEED) $(CLOOB))
# Settings of CLOOB's further stages: steps, options.
further_cloob = $(strip --steps $(1) -b $(BATCH_CLOOB) --size $(SIZE) --holdout $(HOLDOUT_CLOOB) --seed $(SEED) $(2))
settings_cloob-closer = $(call further_cloob,$(STEPS_CLOSER),$(CLOSER))
settings_cloob-texts = $(call further_cloob,$(STEPS_TEXTS),--text-only $(TEXTS))
settings_cloob-single = $(call further_cloob,$(STEPS_SINGLE),--text-only $(SINGLE))
# Steps of CLOOB's second stage, and of a third and fourth for its text tower alone; an empty value leaves the stage out. All
# train on pairs.tsv unless the first and the last get other lists.
STEPS_CLOSER ?=
STEPS_TEXTS ?=
STEPS_SINGLE ?=
CLOOB_PAIRS ?= $(OUT)/pairs.tsv
SINGLE_PAIRS ?= $(OUT)/pairs.tsv

networks = $(OUT)/model/autoencoder.safetensors $(OUT)/model/cloob.safetensors
include $(dir $(lastword $(MAKEFILE_LIST)))diffusion.mk

autoencoder: $(OUT)/model/autoencoder.safetensors
cloob: $(OUT)/model/cloob.safetensors

# The autoencoder and the diffusion model see no captions, only this list.
$(OUT)/pictures.list $(OUT)/more/pictures.list: %pictures.list: %pairs.tsv
	cut -f 1 $< >$@.part && mv $@.part $@

$(OUT)/model/autoencoder.safetensors: $(OUT)/pictures.list $(OUT)/settings/autoencoder
	@mkdir -p $(@D)
	$(BIN)/ccld-fit-autoencoder $(call begin_or_resume,$(OUT)/autoencoder) $(settings_autoencoder) <$<
	$(call is_finished,$(OUT)/autoencoder,$(STEPS_AUTOENCODER))
	$(call keep_half,$(OUT)/autoencoder/latest/autoencoder.safetensors,$@)

$(OUT)/cloob.txt: $(CLOOB_PAIRS) $(OUT)/settings/cloob
	$(call train,ccld-fit-cloob <$<,cloob,$(STEPS_CLOOB))

# A sharp retrieval (--scale-hopfield) tells images apart soonest, but leaves texts far from their images. A soft one then brings
# them together.
$(OUT)/cloob-closer.txt: $(OUT)/cloob.txt $(OUT)/settings/cloob-closer
	$(call train,ccld-fit-cloob <$(OUT)/pairs.tsv,cloob-closer,$(STEPS_CLOSER),$(OUT)/cloob/latest/cloob.safetensors)

# A batch seldom has two texts that differ only in which object has which color, so these take longest to tell apart.
before_texts = $(OUT)/cloob$(if $(STEPS_CLOSER),-closer)
$(OUT)/cloob-texts.txt: $(before_texts).txt $(OUT)/settings/cloob-texts
	$(call train,ccld-fit-cloob <$(OUT)/pairs.tsv,cloob-texts,$(STEPS_TEXTS),$(before_texts)/latest/cloob.safetensors)

before_single = $(if $(STEPS_TEXTS),$(OUT)/cloob-texts,$(before_texts))
$(OUT)/cloob-single.txt: $(SINGLE_PAIRS) $(before_single).txt $(OUT)/settings/cloob-single
	$(call train,ccld-fit-cloob <$<,cloob-single,$(STEPS_SINGLE),$(before_single)/latest/cloob.safetensors)

last_cloob = $(if $(STEPS_SINGLE),$(OUT)/cloob-single,$(before_single))
$(OUT)/model/cloob.safetensors: $(last_cloob).txt
	@mkdir -p $(@D)
	$(call keep_half,$(last_cloob)/latest/cloob.safetensors,$@)

.PHONY: autoencoder cloob
