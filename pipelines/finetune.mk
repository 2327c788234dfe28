# A model of your own pictures, begun from a published one:
#   make -f pipelines/finetune.mk BIN=build MODEL=models/yfcc PHOTOS=~/photos OUT=tuned
# Whenever it is stopped, the same command goes on: with the pictures that are not encoded yet, from the last checkpoint.
# OUT/model is then a model folder for ccld-plms -m. PROMPTS: a file of prompts for demo grids, a line each.
BIN ?= build
OUT ?= tuned
STEPS ?= 20000
LR ?= 3e-5
BATCH ?= 64
HOLDOUT ?= 100
PROMPTS ?=
FIT ?=

ifeq ($(MODEL),)
$(error name the model folder to begin from: MODEL=DIR)
endif
ifeq ($(PHOTOS),)
$(error name the folder of pictures: PHOTOS=DIR)
endif
diffusion := $(firstword $(wildcard $(MODEL)/diffusion.*))
ifeq ($(diffusion),)
$(error there is no diffusion.* in '$(MODEL)')
endif

all: $(OUT)/model

$(OUT)/shards: FORCE
	find $(PHOTOS) -type f | sort | $(BIN)/ccld-encode -m $(MODEL) -o $@

$(OUT)/run: $(OUT)/shards FORCE
	if [ -e $@/latest ]; then $(BIN)/ccld-fit --resume $@ --steps $(STEPS) $(FIT); else \
	    $(BIN)/ccld-fit $(OUT)/shards -o $@ --init-from $(diffusion) --steps $(STEPS) --lr $(LR) -b $(BATCH) \
	        --holdout $(HOLDOUT) $(if $(PROMPTS),-m $(MODEL) --demo-prompts $(PROMPTS)) $(FIT); fi

$(OUT)/model: $(OUT)/run
	mkdir -p $@
	cd $@ && ln -sf $(abspath $(wildcard $(MODEL)/autoencoder.* $(MODEL)/cloob.*)) . && \
	    ln -sf ../run/latest/diffusion.safetensors .

FORCE:
.PHONY: all FORCE
