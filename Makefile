# One makefile for everything. `make help` lists the goals. config.mk (untracked) may set what stands
# before its include.
ifeq ($(origin CC),default)
CC = gcc
endif
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
# V=1: print commands as they are. WERROR=1: warnings are errors. SANITIZE=address,undefined: build with these, in a folder of its own.
WERROR ?= 0
SANITIZE ?=
# CUDA=1: with the CUDA backend or not at all. CUDA=0: without. auto: with it where nvcc is found.
CUDA ?= auto
NVCC ?= nvcc
# A Python with current PyTorch, for bench-torch only.
PYTHON ?= python3
GOLDEN ?= tests/golden/data
# Inputs per fuzzer.
FUZZ_ROUNDS ?= 100000
-include config.mk

comma := ,
sanitizers := $(patsubst -fsanitize=%,%,$(SANITIZE))
Q := $(if $(V),,@)
BUILD ?= build$(if $(sanitizers),/$(subst $(comma),-,$(sanitizers)))

WARNINGS = -Werror=implicit-function-declaration -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Werror=pointer-arith -Wno-unused-parameter
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif
SANITIZE_FLAGS := $(if $(sanitizers),-fsanitize=$(sanitizers) -fno-sanitize-recover=all -fno-omit-frame-pointer)

# Libraries by pkg-config's names, each with the Debian package that has it.
LIBRARIES = libjpeg:libjpeg62-turbo-dev libpng:libpng-dev \
    libwebp:libwebp-dev lcms2:liblcms2-dev lmdb:liblmdb-dev libzstd:libzstd-dev \
    libxxhash:libxxhash-dev libcjson:libcjson-dev libutf8proc:libutf8proc-dev zlib:zlib1g-dev
# What building and testing need beside them: prove is in perl, netpbm and mandoc serve the tests.
DEBIAN_PACKAGES = gcc libc6-dev make pkg-config perl netpbm mandoc $(foreach l,$(LIBRARIES),$(lastword $(subst :, ,$l)))
PACKAGES := $(foreach l,$(LIBRARIES),$(firstword $(subst :, ,$l)))

NO_BUILD = help deps demo check check-gpu install-built lint clean
ifneq ($(filter-out $(NO_BUILD),$(or $(MAKECMDGOALS),all)),)
ifeq ($(shell command -v pkg-config),)
$(error pkg-config is missing (Debian package pkg-config): run 'make deps')
endif
MISSING := $(strip $(foreach l,$(LIBRARIES),$(if $(shell pkg-config --exists $(firstword $(subst :, ,$l)) || echo no),$(lastword $(subst :, ,$l)))))
ifneq ($(MISSING),)
$(error missing libraries, Debian packages $(MISSING): run 'make deps')
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS := $(shell pkg-config --libs $(PACKAGES))

CUDA_SRC := $(wildcard kernels/cuda/*.cu)
ifeq ($(CUDA),1)
ifeq ($(shell command -v $(NVCC)),)
$(error CUDA=1, but '$(NVCC)' was not found: install the CUDA toolkit, set NVCC, or build with CUDA=0)
endif
ifeq ($(CUDA_SRC),)
$(error CUDA=1, but there is no CUDA backend yet: build with CUDA=0)
endif
endif
endif

ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -I. -pthread -fno-math-errno -ffp-contract=off $(WARNINGS) $(CFLAGS) $(PKG_CFLAGS) $(SANITIZE_FLAGS) $(EXTRA_CFLAGS)
ALL_LIBS = $(PKG_LIBS) -pthread -lm $(LDFLAGS)

LIB_SRC := $(wildcard common/*.c common/*/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c formats/*.c)
TOOL_SRC := $(wildcard tools/*.c)
TEST_MAIN := $(wildcard tests/unit/*.c tests/golden/*.c tests/fuzz/*.c tests/bench/*.c tests/synth/*.c)
SUPPORT_SRC := $(wildcard tests/support/*.c)
OP_SRC := $(wildcard tests/op/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
SUPPORT_OBJ := $(SUPPORT_SRC:%.c=$(BUILD)/%.o)
TOOLS := $(TOOL_SRC:tools/%.c=$(BUILD)/%)
MAINS := $(TEST_MAIN:%.c=$(BUILD)/%)
CHECKER := $(if $(OP_SRC),$(BUILD)/tests/op/checker)
SYNTH := $(BUILD)/tests/synth/synth-model
UNIT := $(filter $(BUILD)/tests/unit/%,$(MAINS))
PARITY := $(filter $(BUILD)/tests/golden/%,$(MAINS))
BENCHES := $(filter $(BUILD)/tests/bench/%,$(MAINS))
FUZZERS := $(filter $(BUILD)/tests/fuzz/%,$(MAINS))
SCRIPTS := tests/cli/run $(wildcard tests/*.sh)

all: $(TOOLS)
tests: $(MAINS) $(CHECKER)

$(BUILD)/libccld.a: $(LIB_OBJ)
	@rm -f $@ && $(AR) rcs $@ $^
# All is built anew when the flags change.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CFLAGS)' >$@
# Where the model that ships with the project is looked for.
$(BUILD)/common/nets/model.o: private EXTRA_CFLAGS := -DCCLD_MODELS_FOLDER='"$(PREFIX)/share/ccld/models"'
# The fast kernels contract to FMA; everything else rounds every step, as written.
$(BUILD)/kernels/cpu/%.o: private EXTRA_CFLAGS := -O3 -ffp-contract=fast
$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo compile $<)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<
$(TOOLS): $(BUILD)/%: $(BUILD)/tools/%.o $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)
$(MAINS): $(BUILD)/%: $(BUILD)/%.o $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)
$(CHECKER): $(OP_SRC:%.c=$(BUILD)/%.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

# What it takes in with .incbin.
$(BUILD)/formats/embedded.o: formats/clip_bpe_merges.txt.zst formats/html_entities.txt

# Second invocations of make below see what deps has installed by then.
AGAIN = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j $(shell nproc))
deps:
	@missing=; for p in $(DEBIAN_PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q ' ok installed' || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit; \
	if ! command -v apt-get >/dev/null; then \
	    echo "make deps knows Debian only; install what corresponds to:$$missing" >&2; exit 1; fi; \
	if [ $$(id -u) = 0 ]; then as_root=env; elif command -v sudo >/dev/null; then as_root=sudo; else \
	    echo "run as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	$$as_root apt-get -q update && \
	$$as_root DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $$missing

demo: deps
	@$(AGAIN) $(BUILD)/tests/synth/synth-model all
	@$(MAKE) --no-print-directory -f pipelines/demo.mk BIN=$(BUILD) OUT=$(BUILD)/demo

# Everything that needs no GPU.
check: deps
	@$(AGAIN) prove

PROVE = BUILD=$(BUILD) prove --timer --exec ''
prove: all tests
	$(PROVE) -j 2 $(CHECKER) $(UNIT) $(FUZZERS) $(PARITY) $(SCRIPTS)

# All but the whole networks: what a sanitizer build can run in good time.
prove-quick: all tests
	$(PROVE) -j 2 $(CHECKER) $(UNIT) $(FUZZERS) $(filter-out %/nets,$(PARITY)) $(SCRIPTS)

check-golden: $(PARITY)
	@tests/golden/run '$(GOLDEN)' $(PARITY)

check-gpu:
	@echo "check-gpu: there is no GPU backend yet, so there is nothing to check" >&2; exit 1

bench: $(BENCHES) all
	@for b in $(BENCHES); do $$b || exit 1; done

bench-torch: $(BUILD)/tests/bench/bench-nets $(BUILD)/tests/bench/bench-fit
	@$(PYTHON) -c 'import torch' 2>/dev/null || { printf '%s\n' "bench-torch: '$(PYTHON)' has no torch; try:" \
	    'python3 -m venv build/venv && build/venv/bin/pip install torch numpy' \
	    'make bench-torch PYTHON=build/venv/bin/python' >&2; exit 1; }
	$(PYTHON) tests/bench/bench-torch.py --bench $(BUILD)/tests/bench/bench-nets
	$(PYTHON) tests/bench/bench-torch-fit.py --bench $(BUILD)/tests/bench/bench-fit --base 64 --batch 8
	$(PYTHON) tests/bench/bench-torch-fit.py --bench $(BUILD)/tests/bench/bench-fit --base 16 --batch 64

fuzz: $(FUZZERS)
	$(PROVE) $(FUZZERS) :: $(FUZZ_ROUNDS)

lint:
	@command -v clang-format >/dev/null || { echo "lint: clang-format is missing (Debian package clang-format)" >&2; exit 1; }
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')
	mandoc -T lint -W warning man/*.[15]
	prove tests/include-direction.sh

install: all
	@$(MAKE) --no-print-directory install-built
install-built:
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5
	install $(TOOLS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5

help:
	@printf '%s\n' \
	    'make               build the programs into $(BUILD)/' \
	    'make deps          install the Debian packages that are missing' \
	    'make demo          encode the sample photographs and sample a picture' \
	    'make check         install, build, run all tests that need no GPU' \
	    'make check-golden GOLDEN=DIR   hold the networks against another folder of golden numbers' \
	    'make check-gpu     tests of the GPU backend' \
	    'make bench         time the networks; make bench-torch times PyTorch on the same' \
	    'make fuzz          run the fuzzers on FUZZ_ROUNDS inputs each' \
	    'make lint          formatting, man pages, directions of includes' \
	    'make install       programs and man pages under DESTDIR and PREFIX' \
	    'make clean         remove $(BUILD)/'

clean:
	rm -rf $(BUILD)

FORCE:
.PHONY: all tests deps demo check prove prove-quick check-golden check-gpu bench bench-torch fuzz lint install install-built help clean FORCE
.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(SUPPORT_OBJ:.o=.d) $(TOOL_SRC:%.c=$(BUILD)/%.d) $(TEST_MAIN:%.c=$(BUILD)/%.d) $(OP_SRC:%.c=$(BUILD)/%.d)
