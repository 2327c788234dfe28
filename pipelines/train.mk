# From pairs of picture and caption to three trained networks and a sheet of their pictures, for shapes.mk and stamps.mk.
# They name the sizes and make $(OUT)/pairs.tsv, lines of path, tab and caption. What goes on and how: diffusion.mk.
settings_autoencoder = $(strip --size $(SIZE) --steps $(STEPS_AUTOENCODER) -b $(BATCH_AUTOENCODER) --lr $(LR_AUTOENCODER) \
    --holdout $(HOLDOUT) --seed $(SEED) $(AUTOENCODER))
settings_cloob = $(strip --size $(SIZE) --steps $(STEPS_CLOOB) -b $(BATCH_CLOOB) --lr $(LR_CLOOB) --holdout $(HOLDOUT_CLOOB) \
    --seed $(SEED) $(CLOOB))

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

$(OUT)/model/cloob.safetensors: $(OUT)/pairs.tsv $(OUT)/settings/cloob
	@mkdir -p $(@D)
	$(BIN)/ccld-fit-cloob $(call begin_or_resume,$(OUT)/cloob) $(settings_cloob) <$<
	$(call is_finished,$(OUT)/cloob,$(STEPS_CLOOB))
	$(call keep_half,$(OUT)/cloob/latest/cloob.safetensors,$@)

.PHONY: autoencoder cloob
