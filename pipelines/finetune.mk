# Finetunes a model on your own images:
#   make -f pipelines/finetune.mk BIN=build MODEL=models/yfcc PHOTOS=~/photos OUT=tuned
# After an interruption, the same command encodes the remaining images and resumes from the last checkpoint. OUT/model becomes a
# model folder for ccld-plms -m. PROMPTS names a file of prompts for demo grids, one per line; FIT holds further options of
# ccld-fit. published.mk makes the folder MODEL of published weights. With DEVICES=all, =4 or =0,2,5, several GPUs encode and
# train (--devices of the programs), and BATCH is per GPU; images that were first encoded without DEVICES stay one store, which one
# device adds to. PHOTOS is a folder or an archive of any name. Other files than images in it are counted and left out; if more than
# 5 % of the images are damaged, this ends, and ENCODE="--max-failures 100" goes on. ENCODE holds further options of ccld-encode. With
# few images, BATCH (64) and HOLDOUT (100) must be smaller. A run keeps its settings, which are in OUT/settings: another STEPS resumes
# it, other values of LR, BATCH, HOLDOUT, MODEL and PROMPTS are an error.
BIN ?= build
OUT ?= tuned
STEPS ?= 20000
LR ?= 3e-5
BATCH ?= 64
HOLDOUT ?= 100
PROMPTS ?=
FIT ?=
ENCODE ?=
DEVICES ?=

include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT MODEL PROMPTS)
# A folder of images may have any name.
$(call as_given,PHOTOS)
ifeq ($(MODEL),)
$(error no model to start from: set MODEL=DIR)
endif
ifeq ($(PHOTOS),)
$(error no images: set PHOTOS=DIR)
endif
diffusion := $(firstword $(wildcard $(MODEL)/diffusion.*))
ifeq ($(diffusion),)
$(error no diffusion.* in '$(MODEL)')
endif

all: $(OUT)/model

devices = $(if $(DEVICES),--devices $(DEVICES))
$(OUT)/shards: FORCE
	photos=$$PHOTOS; case $$photos in '~/'*) photos=$$HOME/$${photos#'~/'} ;; esac; \
	$(BIN)/ccld-encode -m $(MODEL) -o $@ $(if $(wildcard $@/00000.mdb),,$(devices)) $(ENCODE) -- "$$photos"

# The run of an older recipe has none: it gets those of now.
$(OUT)/settings/run: export SETTINGS = $(strip LR=$(LR) BATCH=$(BATCH) HOLDOUT=$(HOLDOUT) MODEL=$(abspath $(MODEL)) \
    $(if $(PROMPTS),PROMPTS=$(abspath $(PROMPTS))))
$(OUT)/settings/run: FORCE
	@[ ! -e $(OUT)/run/latest ] || [ ! -e $@ ] || printf '%s\n' "$$SETTINGS" | cmp -s - $@ || { \
	    echo "$(OUT)/run was begun with $$(cat $@): set these again, change the run by FIT=\"--lr X\", or delete it" >&2; exit 1; }
	@mkdir -p $(@D)
	@printf '%s\n' "$$SETTINGS" >$@

# clean.mk sets what the store needs before.
$(OUT)/run: $(OUT)/settings/run $(or $(store_is_ready),$(OUT)/shards) FORCE
	if [ -e $@/latest ]; then $(BIN)/ccld-fit --resume $@ --steps $(STEPS) $(devices) $(FIT); else \
	    $(BIN)/ccld-fit $(OUT)/shards -o $@ --init-from $(diffusion) --steps $(STEPS) --lr $(LR) -b $(BATCH) \
	        --holdout $(HOLDOUT) $(if $(PROMPTS),-m $(MODEL) --demo-prompts $(PROMPTS)) $(devices) $(FIT); fi

$(OUT)/model: $(OUT)/run
	mkdir -p $@
	cd $@ && ln -sf $(abspath $(wildcard $(MODEL)/autoencoder.* $(MODEL)/cloob.*)) . && \
	    ln -sf ../run/latest/diffusion.safetensors .

FORCE:
.PHONY: all FORCE
