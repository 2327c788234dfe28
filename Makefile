# One makefile for everything; config.mk (untracked) may override what stands before its include.
CC ?= gcc
CFLAGS ?= -O2 -g
WARNINGS = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter
PREFIX ?= /usr/local
BUILD ?= build
WERROR ?= 0
SANITIZE ?=
-include config.mk
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

PACKAGES = libturbojpeg libjpeg libpng libwebp lcms2 lmdb libzstd libxxhash libcjson libutf8proc zlib
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null)
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -I. -pthread -fno-math-errno -ffp-contract=off $(WARNINGS) $(CFLAGS) $(PKG_CFLAGS) $(SANITIZE)
ALL_LIBS = $(PKG_LIBS) -pthread -lm $(SANITIZE)

LIB_SRC := $(wildcard common/*.c common/base/*.c common/nets/*.c common/diffusion/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c formats/*.c)
TOOL_SRC := $(wildcard tools/*.c)
TEST_MAIN := $(wildcard tests/unit/*.c tests/golden/*.c tests/fuzz/*.c tests/bench/*.c tests/synth/*.c)
SUPPORT_OBJ := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))
OP_SRC := $(wildcard tests/op/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
TOOLS := $(TOOL_SRC:tools/%.c=$(BUILD)/%)
TESTS := $(TEST_MAIN:%.c=$(BUILD)/%) $(if $(OP_SRC),$(BUILD)/tests/op/checker)

all: $(TOOLS)
tests: $(TESTS)

$(BUILD)/libccld.a: $(LIB_OBJ)
	@rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -MMD -MP -c -o $@ $<
$(TOOLS): $(BUILD)/%: $(BUILD)/tools/%.o $(BUILD)/libccld.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)
$(TEST_MAIN:%.c=$(BUILD)/%): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)
$(BUILD)/tests/op/checker: $(OP_SRC:%.c=$(BUILD)/%.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

clean:
	rm -rf $(BUILD)

.PHONY: all tests clean
.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(TOOL_SRC:%.c=$(BUILD)/%.d) $(TEST_MAIN:%.c=$(BUILD)/%.d) $(OP_SRC:%.c=$(BUILD)/%.d)
