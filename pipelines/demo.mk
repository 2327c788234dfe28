# The whole way once, on what ships: sample photographs -> shard store, texts -> pictures -> one PNG.
# `make demo` builds, then runs this; by hand: make -f pipelines/demo.mk BIN=build OUT=build/demo
# -m: with a model of your own, make -f pipelines/demo.mk MODEL=models/yfcc
BIN ?= build
OUT ?= $(BIN)/demo
MODEL ?= $(OUT)/model
PHOTOS ?= $(wildcard tests/golden/data/images/*.jpg tests/golden/data/images/*.png)
STEPS ?= 10

all: $(OUT)/shards/done $(OUT)/grid.png
	$(BIN)/ccld-shards stat $(OUT)/shards
ifeq ($(MODEL),$(OUT)/model)
	@echo "The model is synthetic, so $(OUT)/grid.png is noise until a trained small model ships."
else
	@echo "The picture is $(OUT)/grid.png."
endif

$(OUT)/model/cloob.safetensors:
	$(BIN)/tests/synth/synth-model -o $(@D)
$(MODEL): $(if $(filter $(OUT)/model,$(MODEL)),$(OUT)/model/cloob.safetensors)

# ccld-encode skips what is done, so that running it again costs nothing.
$(OUT)/shards/done: $(MODEL) FORCE
	printf '%s\n' $(PHOTOS) | $(BIN)/ccld-encode -m $(MODEL) -o $(@D)

$(OUT)/grid.png: $(MODEL) FORCE
	printf '%s\n' 'a rainy city street' 'a green beetle on a leaf' | \
	    $(BIN)/ccld-plms -m $(MODEL) -n 4 --steps $(STEPS) | $(BIN)/ccld-grid --columns 4 -o $@

FORCE:
.PHONY: all FORCE
