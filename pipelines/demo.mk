# Encodes sample photographs into a shard store and samples prompts to a grid, with what ships with the project: the model is
# models/small (colored shapes at 64x64; see its README.md).
# `make demo` builds the programs, then runs this. By hand: make -f pipelines/demo.mk BIN=build OUT=build/demo
# With another model: make -f pipelines/demo.mk MODEL=models/yfcc PROMPTS=prompts.txt
BIN ?= build
OUT ?= $(BIN)/demo
MODEL ?= models/small
PHOTOS ?= $(wildcard tests/golden/data/images/*.jpg tests/golden/data/images/*.png)
# One row of samples per line.
PROMPTS ?= pipelines/demo-prompts.txt
SAMPLES ?= 4
SEED ?= 1
STEPS ?= 50
# Further options of ccld-plms.
SAMPLING ?=

include $(dir $(lastword $(MAKEFILE_LIST)))given_names.mk
$(call without_blanks,BIN OUT MODEL PROMPTS)

all: $(OUT)/shards/done $(OUT)/grid.png
	$(BIN)/ccld-shards stat $(OUT)/shards
	@echo "Samples of $(PROMPTS): $(OUT)/grid.png"

# ccld-encode skips files that are in the store, so running it again costs nothing.
$(OUT)/shards/done: FORCE
	printf '%s\n' $(PHOTOS) | $(BIN)/ccld-encode -m $(MODEL) -o $(@D)

$(OUT)/grid.png: FORCE
	$(BIN)/ccld-plms -m $(MODEL) --prompts $(PROMPTS) -n $(SAMPLES) --seed $(SEED) --steps $(STEPS) $(SAMPLING) | \
	    $(BIN)/ccld-grid --columns $(SAMPLES) -o $@

FORCE:
.PHONY: all FORCE
