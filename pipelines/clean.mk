# Finetunes a model on your own images without those that repeat others or show what you do not want:
#   make -f pipelines/clean.mk BIN=build MODEL=models/yfcc PHOTOS=~/photos OUT=tuned UNWANTED=unwanted.txt
# does all that finetune.mk does, which explains the variables. Before it trains, it removes records from the store: of copies of
# an image, which differ by at most DUPLICATES (T of ccld-find --duplicates; empty for none), all but one, and images that score at least ABOVE for a text
# in the file UNWANTED. Each of its lines is a text, or a text, a tab and a score for it in place of ABOVE. The images themselves
# remain. The goal `lists` encodes and, without removing anything, writes OUT/duplicates.tsv and OUT/unwanted.tsv, as ccld-find prints
# them: look at these before you choose the limits. OUT/cleaned lists what was removed; once it exists, nothing is encoded or
# removed any more, and other values of DUPLICATES, UNWANTED and ABOVE, or other texts in the file, only cause a message. Delete it to
# encode new images, and those that were removed, and to choose again.
DUPLICATES ?= 1.4
UNWANTED ?=
ABOVE ?= 0.3

# What finetune.mk trains on.
override store_is_ready = chosen_before $(OUT)/cleaned
include $(dir $(lastword $(MAKEFILE_LIST)))finetune.mk
$(call without_blanks,UNWANTED DUPLICATES ABOVE)

find = $(BIN)/ccld-find -m $(MODEL) $(OUT)/shards
find_duplicates = $(if $(DUPLICATES),$(BIN)/ccld-find $(OUT)/shards --duplicates $(DUPLICATES) $(1))
# In a loop: a text that is an operand could be the name of a folder.
find_unwanted = $(if $(UNWANTED),while IFS='	' read -r text above || [ -n "$$text" ]; do [ -z "$$text" ] || \
    $(find) --prompt="$$text" --above "$${above:-$(ABOVE)}" $(1) || exit 1; done <$(UNWANTED))

lists: $(OUT)/shards
	$(or $(call find_duplicates),:) >$(OUT)/duplicates.tsv
	{ $(or $(call find_unwanted),:); } >$(OUT)/unwanted.tsv

chosen_before $(OUT)/cleaned: export CHOICE = $(strip DUPLICATES=$(DUPLICATES) \
    $(if $(UNWANTED),UNWANTED=$(abspath $(UNWANTED)) (checksum $(firstword $(shell cksum <$(UNWANTED)))) ABOVE=$(ABOVE)))
chosen_before:
	@[ ! -e $(OUT)/cleaned ] || [ ! -e $(OUT)/settings/cleaned ] || printf '%s\n' "$$CHOICE" | cmp -s - $(OUT)/settings/cleaned || \
	    echo "$(OUT)/cleaned was made with $$(cat $(OUT)/settings/cleaned): delete it to choose again" >&2

$(OUT)/cleaned: $(if $(wildcard $(OUT)/cleaned),,$(OUT)/shards)
	{ $(or $(call find_duplicates,--to-remove),:); } >$@.part
	{ $(or $(call find_unwanted,--to-remove),:); } >>$@.part
	$(BIN)/ccld-shards remove $(OUT)/shards <$@.part
	mkdir -p $(OUT)/settings
	printf '%s\n' "$$CHOICE" >$(OUT)/settings/cleaned
	mv $@.part $@

# A removal that was killed in its last moments is completed first.
ifneq ($(wildcard $(OUT)/shards/.remove $(OUT)/shards/parts/*/.remove),)
$(OUT)/shards: complete_removal
endif
complete_removal:
	$(BIN)/ccld-shards remove $(OUT)/shards </dev/null

.PHONY: lists complete_removal chosen_before
