# Trains a diffusion model from scratch on COCO's photographs, with the published autoencoder and CLOOB, on GPUs. Nothing is
# fetched here. Download the images from cocodataset.org (train2017.zip) and the two networks, whose addresses are in published.mk:
# kl-f8.zip of CompVis/latent-diffusion and a CLOOB of crowsonkb/cloob-training. PHOTOS is the archive, or a folder of .jpg files.
#   make -f pipelines/coco.mk BIN=build OUT=coco PHOTOS=train2017.zip AUTOENCODER=kl-f8.zip CLOOB=\
#       cloob_laion_400m_vit_b_16_16_epochs-405a3c31572e0a38f8632fa0db704d0e4521ad663555479f86babd3d178b1892.pkl
# CLOOB is checked against the SHA-256 at the end of its name; set SHA256_CLOOB if the file has another name. None is published
# for the autoencoder, which is checked only if you set SHA256_AUTOENCODER.
# With DEVICES=all, =4 or =0,2,5, several GPUs encode and train, as diffusion.mk explains.
# Captions are not used. Goals: check pictures latents diffusion samples grid. To start from a published U-Net, use finetune.mk.
BIN ?= build
OUT ?= coco
ifeq ($(PHOTOS),)
$(error no images: set PHOTOS=DIR)
endif
include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT AUTOENCODER CLOOB PROMPTS)
$(call as_given,PHOTOS)
ifeq ($(AUTOENCODER),)
$(error no autoencoder: set AUTOENCODER=FILE, the published kl-f8.zip)
endif
ifeq ($(CLOOB),)
$(error no CLOOB: set CLOOB=FILE, a published .pkl)
endif
SHA256_AUTOENCODER ?=
SHA256_CLOOB ?= $(shell printf '%s\n' '$(notdir $(CLOOB))' | sed -n 's/.*-\([0-9a-f]\{64\}\)\.pkl$$/\1/p')

SIZE ?= 256
HOLDOUT ?= 1000
STEPS_DIFFUSION ?= 300000
BATCH_DIFFUSION ?= 64
LR_DIFFUSION ?= 3e-5
CHECKPOINT_EVERY ?= 5000
# The reference's default architecture, 557,000,000 parameters.
DIFFUSION ?= --base-channels 128 --channel-multipliers 4,4,8,8 --mapping-width 1024
PROMPTS ?= pipelines/coco-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3

networks = $(OUT)/model/autoencoder$(suffix $(AUTOENCODER)) $(OUT)/model/cloob$(suffix $(CLOOB))
include $(dir $(lastword $(MAKEFILE_LIST)))diffusion.mk

check: $(networks)

# Checks a file once and links it if its sum is right.
link = @sum=$$(sha256sum <$(1)) && sum=$${sum%% *} && if [ -z "$(2)" ]; then \
    echo "$(1): SHA-256 is $$sum, not checked"; elif [ $$sum != "$(2)" ]; then \
    echo "$(1): SHA-256 is $$sum, expected $(2)" >&2; exit 1; fi && mkdir -p $(@D) && ln -sfn $(abspath $(1)) $@
$(firstword $(networks)): $(AUTOENCODER)
	$(call link,$<,$(SHA256_AUTOENCODER))
$(lastword $(networks)): $(CLOOB)
	$(call link,$<,$(SHA256_CLOOB))

settings_pictures = $(strip $(PHOTOS))
$(OUT)/pictures.list: $(OUT)/settings/pictures
	photos=$$PHOTOS; case $$photos in '~/'*) photos=$$HOME/$${photos#'~/'} ;; esac; \
	if [ -f "$$photos" ]; then printf '%s\n' "$$photos"; else find -H "$$photos" -type f -name '*.jpg' | LC_ALL=C sort; fi >$@.part
	@[ -s $@.part ] || { echo "no *.jpg files in '$$PHOTOS'" >&2; exit 1; }
	mv $@.part $@

.PHONY: check
