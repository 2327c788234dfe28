# A diffusion model of COCO's photographs, trained from nothing in the spaces of the published autoencoder and CLOOB, on a
# GPU. You download, nothing is fetched here: the pictures from cocodataset.org (train2017.zip, unpacked), the autoencoder
# kl-f8.zip of CompVis/latent-diffusion, and a CLOOB of crowsonkb/cloob-training, whose README files say where they are.
#   make -f pipelines/coco.mk BIN=build OUT=coco PHOTOS=train2017 AUTOENCODER=kl-f8.zip CLOOB=\
#       cloob_laion_400m_vit_b_16_16_epochs-405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892.pkl
# CLOOB's SHA-256 is published as the end of the file's name, and checked against it. None is published for the autoencoder:
# SHA256_AUTOENCODER is checked when it is given, and SHA256_CLOOB stands for a file that has another name.
# Captions are not used. Goals: check pictures latents diffusion samples grid. To begin from a published U-Net: finetune.mk.
BIN ?= build
OUT ?= coco
ifeq ($(PHOTOS),)
$(error name the folder of pictures: PHOTOS=DIR)
endif
ifeq ($(AUTOENCODER),)
$(error name the published autoencoder: AUTOENCODER=FILE)
endif
ifeq ($(CLOOB),)
$(error name the published CLOOB: CLOOB=FILE)
endif
SHA256_AUTOENCODER ?=
SHA256_CLOOB ?= $(shell printf '%s\n' '$(notdir $(CLOOB))' | sed -n 's/.*-\([0-9a-f]\{64\}\)\.pkl$$/\1/p')

SIZE ?= 256
HOLDOUT ?= 1000
STEPS_DIFFUSION ?= 300000
BATCH_DIFFUSION ?= 64
LR_DIFFUSION ?= 3e-5
CHECKPOINT_EVERY ?= 5000
# The reference's defaults: 557,000,000 parameters.
DIFFUSION ?= --base-channels 128 --channel-multipliers 4,4,8,8 --mapping-width 1024
PROMPTS ?= pipelines/coco-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3

networks = $(OUT)/model/autoencoder$(suffix $(AUTOENCODER)) $(OUT)/model/cloob$(suffix $(CLOOB))
include $(dir $(lastword $(MAKEFILE_LIST)))diffusion.mk

check: $(networks)

# Checked once, and linked when it is what it should be.
link = @sum=$$(sha256sum <$(1)) && sum=$${sum%% *} && if [ -z "$(2)" ]; then \
    echo "$(1): SHA-256 $$sum, which nothing was said about"; elif [ $$sum != "$(2)" ]; then \
    echo "$(1): SHA-256 $$sum, not $(2)" >&2; exit 1; fi && mkdir -p $(@D) && ln -sfn $(abspath $(1)) $@
$(firstword $(networks)): $(AUTOENCODER)
	$(call link,$<,$(SHA256_AUTOENCODER))
$(lastword $(networks)): $(CLOOB)
	$(call link,$<,$(SHA256_CLOOB))

settings_pictures = $(strip $(PHOTOS))
$(OUT)/pictures.list: $(OUT)/settings/pictures
	find $(PHOTOS) -type f -name '*.jpg' | LC_ALL=C sort >$@.part
	@[ -s $@.part ] || { echo "there are no *.jpg in '$(PHOTOS)'" >&2; exit 1; }
	mv $@.part $@

.PHONY: check
