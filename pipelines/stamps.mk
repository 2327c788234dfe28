# Trains a model from scratch on the captioned photographs and drawings of Debian's package tuxpaint-stamps-default. Nothing is
# fetched here: install the package, or unpack it without being root,
#   apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
# and then, on a GPU,
#   make -f pipelines/stamps.mk BIN=build OUT=build/stamps STAMPS=stamps/usr/share/tuxpaint/stamps
# About 800 images are few, and a model of this size memorizes them. The package has the licenses of the images.
# Goals: pictures autoencoder cloob latents diffusion samples grid.
BIN ?= build
OUT ?= build/stamps
STAMPS ?= /usr/share/tuxpaint/stamps
include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT PROMPTS)
$(call as_given,STAMPS)

# These are guesses: nobody has tuned them.
SIZE ?= 256
HOLDOUT ?= 32
HOLDOUT_CLOOB ?= 64
STEPS_AUTOENCODER ?= 50000
STEPS_CLOOB ?= 4000
STEPS_DIFFUSION ?= 50000
BATCH_AUTOENCODER ?= 12
BATCH_CLOOB ?= 256
BATCH_DIFFUSION ?= 64
LR_AUTOENCODER ?= 1e-4
LR_CLOOB ?= 3e-4
LR_DIFFUSION ?= 1e-4
# 20,945,575, 10,359,552 and 35,004,493 parameters; latents are 4x32x32.
AUTOENCODER ?= --base-channels 64 --channel-multipliers 1,2,4,4 --blocks 2 --latent-channels 4 --flip \
    --lr-schedule cosine --warmup 1000
CLOOB ?= --image-size 128 --patch-size 16 --width 256 --layers 6 --text-width 256 --text-layers 4 --context 77 \
    --vocabulary 8192 --embed 256 --flip --lr-schedule cosine --warmup 500
DIFFUSION ?= --base-channels 32 --channel-multipliers 4,4,8,8 --mapping-width 256 --warmup 1000
PROMPTS ?= pipelines/stamps-prompts.txt
SAMPLES ?= 4
STEPS_SAMPLES ?= 50
GUIDANCE ?= 3

include $(dir $(lastword $(MAKEFILE_LIST)))train.mk

# A stamp's caption is the first line of the .txt file beside it; translations follow. Vector drawings are left out.
settings_pictures = $(strip $(STAMPS))
$(OUT)/pairs.tsv: $(OUT)/settings/pictures
	@[ -d "$$STAMPS" ] || { echo "no folder '$$STAMPS': stamps.mk says at its top how to get it" >&2; exit 1; }
	find "$$STAMPS" -type f \( -name '*.png' -o -name '*.jpg' \) | LC_ALL=C sort | while IFS= read -r path; do \
	    caption=$$(head -n 1 "$${path%.*}.txt" 2>/dev/null | tr '\t' ' ' | tr -d '\r'); \
	    [ -z "$$caption" ] || printf '%s\t%s\n' "$$path" "$$caption"; done >$@.part
	@[ -s $@.part ] || { echo "no captioned images in '$$STAMPS'" >&2; exit 1; }
	mv $@.part $@
