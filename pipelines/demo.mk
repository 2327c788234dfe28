# The whole way once, on what ships: sample photographs -> shard store, texts -> pictures -> one PNG, with the small model
# of models/small (coloured shapes, 64x64; its README.md says what it can do).
# `make demo` builds, then runs this; by hand: make -f pipelines/demo.mk BIN=build OUT=build/demo
# With a model of your own: make -f pipelines/demo.mk MODEL=models/yfcc PROMPTS=prompts.txt
BIN ?= build
OUT ?= $(BIN)/demo
MODEL ?= models/small
PHOTOS ?= $(wildcard tests/golden/data/images/*.jpg tests/golden/data/images/*.png)
# A line is a row of pictures.
PROMPTS ?= pipelines/demo-prompts.txt
SAMPLES ?= 4
SEED ?= 1
STEPS ?= 50
# Guidance that begins a little later: what a text leaves open differs more.
SAMPLING ?= --guidance-start 0.92

all: $(OUT)/shards/done $(OUT)/grid.png
	$(BIN)/ccld-shards stat $(OUT)/shards
	@echo "The pictures of $(PROMPTS) are in $(OUT)/grid.png."

# ccld-encode skips what is done, so that running it again costs nothing.
$(OUT)/shards/done: FORCE
	printf '%s\n' $(PHOTOS) | $(BIN)/ccld-encode -m $(MODEL) -o $(@D)

$(OUT)/grid.png: FORCE
	$(BIN)/ccld-plms -m $(MODEL) --prompts $(PROMPTS) -n $(SAMPLES) --seed $(SEED) --steps $(STEPS) $(SAMPLING) | \
	    $(BIN)/ccld-grid --columns $(SAMPLES) -o $@

FORCE:
.PHONY: all FORCE
