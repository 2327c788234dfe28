# Images and captions by one of our generators, for shapes.mk and things.mk, and networks trained on them. They set the sizes and
# GENERATOR, the program. Existing images are checked and kept.
include $(dir $(lastword $(MAKEFILE_LIST)))train.mk

settings_pictures = $(strip -n $(COUNT) --size $(SIZE) --seed $(SEED) --split train)
$(OUT)/pairs.tsv: $(OUT)/settings/pictures
	$(GENERATOR) -o $(OUT)/pictures $(settings_pictures) --pairs $@ $(COMPUTE)
