# From pairs of picture and caption to three trained networks and a sheet of their pictures, for shapes.mk and stamps.mk.
# They name the sizes and make $(OUT)/pairs.tsv, lines of path, tab and caption. What goes on and how: diffusion.mk.
settings_autoencoder = $(strip --size $(SIZE) --steps $(STEPS_AUTOENCODER) -b $(BATCH_AUTOENCODER) --lr $(LR_AUTOENCODER) \
    --holdout $(HOLDOUT) --seed $(SEED) $(AUTOENCODER))
settings_cloob = $(strip --size $(SIZE) --steps $(STEPS_CLOOB) -b $(BATCH_CLOOB) --lr $(LR_CLOOB) --holdout $(HOLDOUT_CLOOB) \
    --seed $(SEED) $(CLOOB))
settings_cloob-closer = $(strip --steps $(STEPS_CLOSER) -b $(BATCH_CLOOB) --size $(SIZE) --holdout $(HOLDOUT_CLOOB) \
    --seed $(SEED) $(CLOSER))
# Steps of a second training of CLOOB, on pairs.tsv; none where empty. The first may have a list of its own.
STEPS_CLOSER ?=
CLOOB_PAIRS ?= $(OUT)/pairs.tsv

networks = $(OUT)/model/autoencoder.safetensors $(OUT)/model/cloob.safetensors
include $(dir $(lastword $(MAKEFILE_LIST)))diffusion.mk

autoencoder: $(OUT)/model/autoencoder.safetensors
cloob: $(OUT)/model/cloob.safetensors

# All that the autoencoder and the diffusion model ever see: no captions.
$(OUT)/pictures.list: $(OUT)/pairs.tsv
	cut -f 1 $< >$@.part && mv $@.part $@

$(OUT)/model/autoencoder.safetensors: $(OUT)/pictures.list $(OUT)/settings/autoencoder
	@mkdir -p $(@D)
	$(BIN)/ccld-fit-autoencoder $(call begin_or_resume,$(OUT)/autoencoder) $(settings_autoencoder) <$<
	$(call is_finished,$(OUT)/autoencoder,$(STEPS_AUTOENCODER))
	$(call keep_half,$(OUT)/autoencoder/latest/autoencoder.safetensors,$@)

$(OUT)/cloob.txt: $(CLOOB_PAIRS) $(OUT)/settings/cloob
	$(BIN)/ccld-fit-cloob $(call begin_or_resume,$(OUT)/cloob) $(settings_cloob) <$<
	$(call is_finished,$(OUT)/cloob,$(STEPS_CLOOB))
	readlink $(OUT)/cloob/latest >$@

# A sharp retrieval (--scale-hopfield) tells pictures apart soonest but leaves texts far from their pictures; from there on a
# soft one brings them together.
$(OUT)/cloob-closer.txt: $(OUT)/cloob.txt $(OUT)/settings/cloob-closer
	$(BIN)/ccld-fit-cloob $(call begin_or_resume,$(OUT)/cloob-closer,$(OUT)/cloob/latest/cloob.safetensors) \
	    $(settings_cloob-closer) <$(OUT)/pairs.tsv
	$(call is_finished,$(OUT)/cloob-closer,$(STEPS_CLOSER))
	readlink $(OUT)/cloob-closer/latest >$@

last_cloob = $(OUT)/cloob$(if $(STEPS_CLOSER),-closer)
$(OUT)/model/cloob.safetensors: $(last_cloob).txt
	@mkdir -p $(@D)
	$(call keep_half,$(last_cloob)/latest/cloob.safetensors,$@)

.PHONY: autoencoder cloob
