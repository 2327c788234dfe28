# One makefile for everything. `make help` lists the goals. config.mk (untracked) may set the variables
# defined before it is included.
ifeq ($(origin CC),default)
CC = gcc
endif
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
PKG_CONFIG ?= pkg-config
# V=1: print full commands. WERROR=1: treat warnings as errors. SANITIZE=address,undefined: build with these sanitizers, in a separate folder.
WERROR ?= 0
SANITIZE ?=
# CUDA=1: build the CUDA backend or fail. CUDA=0: leave it out. auto: build it if nvcc and cuDNN are found.
CUDA ?= auto
NVCC ?= nvcc
# Folder with cuDNN's include/ and lib/, if it is not in a usual place.
CUDNN ?=
# Folder with NCCL's lib/, likewise. Building does not need it; several GPUs do.
NCCL ?=
# MPI=1: build what training on several hosts needs, or fail; deps also installs Open MPI. MPI=0: leave it out. auto: build it if mpicc is found.
MPI ?= auto
MPICC ?= mpicc
# A Python with a current PyTorch, for bench-torch, and OpenVINO, for bench-openvino.
PYTHON ?= python3
GOLDEN ?= tests/golden/data
# fuzz: how long each harness runs, and the compiler, which must have libFuzzer.
FUZZ_SECONDS ?= 60
CLANG ?= clang
# bench-fidelity: what MODEL was trained on, shapes or things, and images per prompt at each guidance. Of shapes there are 90 seen and
# 30 held-out prompts; of things 256 of each with one thing, 128 of each with two, and 16 that leave the background open.
WORLD ?= shapes
FIDELITY_SEEN ?= $(if $(filter things,$(WORLD)),1,2)
FIDELITY_HOLDOUT ?= $(if $(filter things,$(WORLD)),1,6)
FIDELITY_OPEN ?= 12
FIDELITY_GUIDANCE ?= 1 2 3 5
FIDELITY_STEPS ?= 50
FIDELITY_SIZE ?= 64
FIDELITY_SEED ?= 0
# Further options of ccld-plms.
FIDELITY_OPTIONS ?=
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

# Libraries by their pkg-config names, each with its Debian package.
LIBRARIES = libarchive:libarchive-dev libjpeg:libjpeg-dev libpng:libpng-dev \
    libwebp:libwebp-dev lcms2:liblcms2-dev lmdb:liblmdb-dev libzstd:libzstd-dev \
    libxxhash:libxxhash-dev libcjson:libcjson-dev libutf8proc:libutf8proc-dev zlib:zlib1g-dev
# Image formats that are read if their library is there: name, in C, pkg-config name, lowest version, Debian package. FORMATS= builds without.
FORMATS ?= gif tiff heif avif jxl
FORMAT_LIBRARIES = gif:GIF:libgif:5:libgif-dev tiff:TIFF:libtiff-4:4.5:libtiff-dev \
    heif:HEIF:libheif:1.15:libheif-dev avif:AVIF:libavif:0.11:libavif-dev jxl:JXL:libjxl:0.7:libjxl-dev
format_field = $(word $2,$(subst :, ,$(filter $1:%,$(FORMAT_LIBRARIES))))
# Building needs these as well. Tests need a C++ compiler, prove (in perl), pgrep (in procps), netpbm and mandoc; the world of things FreeType and a font.
# LINT=1: deps also installs what `make lint` needs.
LINT ?= 0
# FUZZ=1: deps also installs what `make fuzz` needs.
FUZZ ?= 0
BUILD_PACKAGES = gcc libc6-dev make pkg-config $(if $(filter 1,$(CUDA)),g++) $(if $(filter 1,$(MPI)),libopenmpi-dev openmpi-bin) $(foreach l,$(LIBRARIES),$(lastword $(subst :, ,$l))) $(foreach f,$(FORMATS),$(call format_field,$f,5))
TEST_PACKAGES = g++ perl procps netpbm mandoc libfreetype-dev fonts-noto-color-emoji $(if $(filter 1,$(LINT)),clang-format clang-tidy git) $(if $(filter 1,$(FUZZ)),clang libclang-rt-dev)
PACKAGES := $(foreach l,$(LIBRARIES),$(firstword $(subst :, ,$l)))

NO_BUILD = help deps deps-build demo check check-elsewhere install-built uninstall clean
ifneq ($(filter-out $(NO_BUILD),$(or $(MAKECMDGOALS),all)),)
ifeq ($(shell command -v $(firstword $(PKG_CONFIG))),)
$(error $(PKG_CONFIG) is missing (Debian package pkg-config): run 'make deps')
endif
MISSING := $(strip $(foreach l,$(LIBRARIES),$(if $(shell $(PKG_CONFIG) --exists $(firstword $(subst :, ,$l)) || echo no),$(lastword $(subst :, ,$l)))))
ifneq ($(MISSING),)
$(error missing libraries, Debian packages $(MISSING): run 'make deps')
endif
UNKNOWN_FORMATS := $(filter-out $(foreach l,$(FORMAT_LIBRARIES),$(firstword $(subst :, ,$l))),$(FORMATS))
ifneq ($(UNKNOWN_FORMATS),)
$(error FORMATS: '$(UNKNOWN_FORMATS)' is not one of gif tiff heif avif jxl)
endif
WITH_FORMATS := $(foreach f,$(FORMATS),$(if $(shell $(PKG_CONFIG) --atleast-version=$(call format_field,$f,4) $(call format_field,$f,3) && echo yes),$f))
PACKAGES += $(foreach f,$(WITH_FORMATS),$(call format_field,$f,3))
# Programs load a format's library when they need it, by the name that it has for that.
soname = $(shell readelf -d '$(PKG_CONFIG_SYSROOT_DIR)$(shell $(PKG_CONFIG) --variable=libdir $2)/lib$1.so' 2>/dev/null | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
PKG_CFLAGS := $(foreach f,$(WITH_FORMATS),-DWITH_$(call format_field,$f,2) -DSONAME_$(call format_field,$f,2)=$(or $(call soname,$f,$(call format_field,$f,3)),lib$f.so)) \
    -DSONAME_ARCHIVE=$(or $(call soname,archive,libarchive),libarchive.so) $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
# libarchive is loaded when it is needed, too.
PKG_LIBS := $(shell $(PKG_CONFIG) --libs $(filter-out libarchive,$(filter-out $(foreach f,$(WITH_FORMATS),$(call format_field,$f,3)),$(PACKAGES))))

ifeq ($(CUDA),1)
ifeq ($(shell command -v $(NVCC)),)
$(error CUDA=1, but '$(NVCC)' was not found: install the CUDA toolkit, set NVCC, or build with CUDA=0)
endif
endif
ifeq ($(MPI),1)
ifeq ($(shell command -v $(MPICC)),)
$(error MPI=1, but '$(MPICC)' was not found: run 'make deps MPI=1', set MPICC, or build with MPI=0)
endif
endif
endif

# Debugging information does not say where the clone is: all clones build the same programs. These leave out functions that they do not
# call.
ALL_CFLAGS = -std=c17 -D_GNU_SOURCE -I. '-ffile-prefix-map=$(CURDIR)=.' -pthread -fno-math-errno -ffp-contract=off -ffunction-sections -fdata-sections $(WARNINGS) $(CFLAGS) $(PKG_CFLAGS) $(SANITIZE_FLAGS) $(PLUGIN_DEFINES) $(EXTRA_CFLAGS)
ALL_LIBS = $(PKG_LIBS) -pthread -ldl -lm -Wl,--gc-sections $(LDFLAGS)

# The CUDA backend is a plugin. It is built twice: by nvcc, and for tests by the C++ compiler, with an
# emulator of CUDA in place of NVIDIA's libraries.
CUDA_SRC := $(wildcard kernels/cuda/*.cu)
CUDA_LIBRARY_SRC := $(filter kernels/cuda/cublas%.cu kernels/cuda/cudnn%.cu kernels/cuda/library_plans.cu,$(CUDA_SRC))
EMULATOR_SRC := $(wildcard tests/cuda-host/*.cc)
PLUGIN := $(BUILD)/libccld-cuda.so
PLUGIN_ON_HOST := $(BUILD)/tests/cuda-host/libccld-cuda-host.so
PLUGIN_OBJ := $(CUDA_SRC:%.cu=$(BUILD)/%.o)
EMULATOR_OBJ := $(patsubst %.cc,$(BUILD)/%.o,$(filter-out tests/cuda-host/test-%,$(EMULATOR_SRC)))
ON_HOST_OBJ := $(patsubst %.cu,$(BUILD)/tests/cuda-host/%.o,$(filter-out $(CUDA_LIBRARY_SRC),$(CUDA_SRC)))
TEST_EMULATOR := $(patsubst %.cc,$(BUILD)/%,$(filter tests/cuda-host/test-%,$(EMULATOR_SRC)))
# auto: not with sanitizers, which cannot see what a GPU does.
WITH_CUDA := $(if $(filter auto,$(CUDA)),$(if $(sanitizers),,$(shell command -v $(NVCC))),$(filter 1,$(CUDA)))

ifneq ($(WITH_CUDA),)
CUDA_HOME ?= $(patsubst %/bin/,%,$(dir $(realpath $(shell command -v $(NVCC)))))
# Usual places: the toolkit's own folder, Debian's, Red Hat's. PyPI's packages lie beside each other.
CUDNN_ROOTS := $(or $(CUDNN),$(CUDA_HOME) /usr /usr/local)
NCCL_ROOTS := $(or $(NCCL),$(CUDNN:%=%/../nccl) $(CUDA_HOME) /usr /usr/local)
MACHINE := $(shell uname -m)
# $(call library,NAME,ROOTS)
library = $(firstword $(foreach d,$2,$(wildcard $d/lib64/$1 $d/lib/$1 $d/lib/$(MACHINE)-linux-gnu/$1)))
CUDNN_HEADER := $(firstword $(foreach d,$(CUDNN_ROOTS),$(wildcard $d/include/cudnn.h $d/include/$(MACHINE)-linux-gnu/cudnn.h)))
CUDNN_LIBRARY := $(call library,libcudnn.so.9,$(CUDNN_ROOTS))
NCCL_LIBRARY := $(abspath $(call library,libnccl.so.2,$(NCCL_ROOTS)))
ifeq ($(and $(CUDNN_HEADER),$(CUDNN_LIBRARY)),)
ifneq ($(CUDA),auto)
$(error cuDNN 9 was not found: install it, set CUDNN to its folder, or build with CUDA=0)
endif
$(warning building without the CUDA backend: cuDNN 9 was not found (set CUDNN to its folder))
WITH_CUDA :=
endif
endif
# Toolkits from CUDA 12.8 on. Other GPUs after Hopper translate the PTX of compute_90.
SM_100 := $(if $(WITH_CUDA),$(if $(findstring compute_100,$(shell $(NVCC) --list-gpu-arch)),-gencode arch=compute_100$(comma)code=sm_100))
# Only drivers that CUDA 13 needs anyway read what it compresses best.
COMPRESS := $(if $(WITH_CUDA),$(if $(filter-out 9 10 11 12,$(shell $(NVCC) --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')),--compress-mode=size,-Xfatbin -compress-all))
NVCC_FLAGS = -std=c++17 -O3 -lineinfo $(COMPRESS) -ccbin $(CXX) -I. $(if $(CUDNN_HEADER),-isystem $(patsubst %/,%,$(dir $(CUDNN_HEADER)))) \
    -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90] $(SM_100) \
    -Xcompiler -fPIC,-Wall,-Wno-unused-function $(if $(filter 1,$(WERROR)),-Werror all-warnings) $(PLUGIN_DEFINES) $(EXTRA_NVCC_FLAGS)
NVCC_LIBS = $(addprefix -Xlinker ,$(CUDNN_LIBRARY)) -lcublasLt -ldl -lrt -lpthread \
    $(foreach d,$(patsubst %/,%,$(sort $(dir $(CUDNN_LIBRARY) $(NCCL_LIBRARY)) $(CUDA_HOME)/lib64/)),-Xlinker -rpath=$d)
# What needs MPI is a plugin as well.
MPI_PLUGIN := $(BUILD)/libccld-mpi.so
WITH_MPI := $(if $(filter auto,$(MPI)),$(if $(sanitizers),,$(shell command -v $(MPICC))),$(filter 1,$(MPI)))
ALL_CXXFLAGS = -std=c++17 -DCUDA_ON_HOST -I. -Itests/cuda-host/include -fPIC -pthread -fno-math-errno -ffp-contract=off -Wno-unknown-warning-option -Wall -Wextra -Wshadow=local \
    -Wpointer-arith -Wno-unused-parameter -Wno-unknown-pragmas -Wno-uninitialized -Wno-maybe-uninitialized $(if $(filter 1,$(WERROR)),-Werror) $(CFLAGS) -O3 $(SANITIZE_FLAGS) $(PLUGIN_DEFINES) $(EXTRA_CXXFLAGS)

# Tests of the backend that need no GPU; the second one needs cuDNN.
CUDA_TESTS := $(BUILD)/tests/cuda/plan_cache $(if $(WITH_CUDA),$(BUILD)/tests/cuda/convolution_plans)

WITHOUT_FORMATS := $(filter-out $(WITH_FORMATS),$(foreach l,$(FORMAT_LIBRARIES),$(firstword $(subst :, ,$l))))
# The world of things takes its bitmaps from a font.
WITH_FREETYPE := $(shell $(PKG_CONFIG) --exists freetype2 2>/dev/null && echo yes)
THINGS_MAIN := tests/synth/things.c tests/unit/things.c tests/unit/things_look.c tests/bench/bench-things.c
THINGS_SRC := $(wildcard tests/things/*.c)
LIB_SRC := $(filter-out $(WITHOUT_FORMATS:%=formats/images/image_%.c),\
    $(wildcard common/*.c common/*/*.c kernels/*.c kernels/ref/*.c kernels/cpu/*.c formats/*.c formats/*/*.c))
TOOL_SRC := $(wildcard tools/*.c)
TEST_MAIN := $(filter-out $(if $(WITH_FREETYPE),,$(THINGS_MAIN)),$(wildcard tests/unit/*.c tests/golden/*.c tests/bench/*.c tests/synth/*.c tests/peers/*.c tests/mpi/*.c))
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
ifeq ($(filter $(WORLD),shapes things),)
$(error WORLD: '$(WORLD)' is neither shapes nor things)
endif
ifeq ($(WITH_FREETYPE)$(WORLD),things)
$(error WORLD=things needs FreeType (Debian package libfreetype-dev): run 'make deps')
endif
FIDELITY := $(BUILD)/tests/bench/$(if $(filter things,$(WORLD)),bench-things,bench-fidelity)
FIDELITY_LISTS := 'seen $(FIDELITY_SEEN)' 'holdout $(FIDELITY_HOLDOUT)' \
    $(if $(filter things,$(WORLD)),'seen-pairs $(FIDELITY_SEEN)' 'holdout-pairs $(FIDELITY_HOLDOUT)' 'open $(FIDELITY_OPEN)')
BENCHES := $(filter-out %/bench-fidelity %/bench-things,$(filter $(BUILD)/tests/bench/%,$(MAINS)))
# A harness for each parser, and small files of all kinds for them to start from.
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
CORPUS_SRC := $(wildcard tests/fuzz/corpus/*.c)
FUZZ_SUPPORT_SRC := $(filter-out $(if $(LIBFUZZER),%/driver.c),$(wildcard tests/fuzz/support/*.c))
FUZZERS := $(FUZZ_SRC:%.c=$(BUILD)/%)
MAKE_CORPUS := $(BUILD)/tests/fuzz/corpus/make-corpus
CORPUS := $(BUILD)/corpus
# Preloaded, it makes calls of a program fail.
FAULTS := $(BUILD)/tests/faults/shim.so $(BUILD)/tests/flips/shim.so
# Two run at a time: the longest come first.
SCRIPTS := tests/cli/run tests/op-instruction-sets.sh
SCRIPTS += $(filter-out $(SCRIPTS),$(wildcard tests/*.sh))

all: programs $(if $(WITH_CUDA),$(PLUGIN)) $(if $(WITH_MPI),$(MPI_PLUGIN))
programs: $(TOOLS) $(BUILD)/models
# Programs look beside themselves for the model that ships with the project.
$(BUILD)/models:
	@mkdir -p $(@D)
	@ln -sfn '$(abspath models)' $@
tests: $(MAINS) $(FUZZERS) $(CORPUS)/made $(FAULTS) $(CHECKER) $(PLUGIN_ON_HOST) $(TEST_EMULATOR) $(CUDA_TESTS)

$(BUILD)/libccld.a: $(LIB_OBJ)
	@rm -f $@ && $(AR) rcs $@ $^
# Everything is rebuilt when the flags change.
$(BUILD)/flags: private COMMAND = $(CC) $(ALL_CFLAGS)
$(BUILD)/flags-cuda: private COMMAND = $(NVCC) $(NVCC_FLAGS)
$(BUILD)/flags-on-host: private COMMAND = $(CXX) $(ALL_CXXFLAGS)
$(BUILD)/flags-mpi: private COMMAND = $(MPICC) $(ALL_CFLAGS)
$(BUILD)/flags $(BUILD)/flags-cuda $(BUILD)/flags-on-host $(BUILD)/flags-mpi: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMAND)' | cmp -s - $@ || echo '$(COMMAND)' >$@
# The fast kernels contract to FMA; everything else rounds after every operation, as written.
FAST := -O3 -ffp-contract=fast
$(BUILD)/kernels/cpu/%.o: private EXTRA_CFLAGS := $(FAST)
$(BUILD)/common/base/dtype.o: private EXTRA_CFLAGS := -O3
# kernels/cpu/isa.c asks the machine for all that is named here.
ifneq ($(findstring x86_64,$(shell $(CC) -dumpmachine)),)
$(BUILD)/kernels/cpu/isa_avx2.o: private EXTRA_CFLAGS := $(FAST) -mavx2 -mfma -mf16c
$(BUILD)/kernels/cpu/isa_avx512.o: private EXTRA_CFLAGS := $(FAST) -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx2 -mfma -mf16c -mprefer-vector-width=512
$(BUILD)/kernels/cpu/isa_avx512_bf16.o: private EXTRA_CFLAGS := $(FAST) -mavx512f -mavx512dq -mavx512vl -mavx512bw -mavx512bf16 -mavx2 -mfma -mf16c -mprefer-vector-width=512
$(BUILD)/kernels/cpu/isa_amx.o: private EXTRA_CFLAGS := $(FAST) -mamx-tile -mamx-bf16
endif
# The program and the plugin refuse each other unless both were built from the same interface.
INTERFACE := kernels/ops.def $(patsubst %,kernels/%.h,plugin device backward group losses ops tensor training weight) common/base/dtype.h common/base/error.h
SIGNED := $(addprefix $(BUILD)/,kernels/plugin.o kernels/cuda/backend.o tests/cuda-host/kernels/cuda/backend.o tests/unit/plugin.o)
$(SIGNED): $(INTERFACE) Makefile
$(SIGNED): private PLUGIN_DEFINES = -DPLUGIN_BUILD_ID=$(firstword $(shell cat $(INTERFACE) | cksum))
MPI_SIGNED := $(addprefix $(BUILD)/common/train/,collective_mpi.o mpi/plugin.o)
$(MPI_SIGNED): common/train/mpi/plugin.h
$(MPI_SIGNED): private PLUGIN_DEFINES = -DMPI_PLUGIN_BUILD_ID=$(firstword $(shell cksum <common/train/mpi/plugin.h))
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
ifneq ($(WITH_FREETYPE),)
THINGS := $(patsubst %.c,$(BUILD)/%,$(wildcard $(THINGS_MAIN)))
$(BUILD)/tests/things/sprites.o: private EXTRA_CFLAGS := $(shell $(PKG_CONFIG) --cflags freetype2)
$(BUILD)/tests/things/template.o: private EXTRA_CFLAGS := -O3
$(THINGS): $(THINGS_SRC:%.c=$(BUILD)/%.o)
$(THINGS): private ALL_LIBS += $(shell $(PKG_CONFIG) --libs freetype2)
endif
# The test writes TIFFs.
ifneq ($(filter tiff,$(WITH_FORMATS)),)
$(BUILD)/tests/unit/image_tiff: private ALL_LIBS += $(shell $(PKG_CONFIG) --libs libtiff-4)
endif
# The test writes archives. Programs load libarchive when they need it.
$(BUILD)/tests/unit/image_source: private ALL_LIBS += $(shell $(PKG_CONFIG) --libs libarchive)
$(FUZZERS): $(BUILD)/%: $(BUILD)/%.o $(FUZZ_SUPPORT_SRC:%.c=$(BUILD)/%.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) $(if $(LIBFUZZER),-fsanitize=fuzzer) -o $@ $^ $(ALL_LIBS)
$(MAKE_CORPUS): $(CORPUS_SRC:%.c=$(BUILD)/%.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)
$(CORPUS)/made: $(MAKE_CORPUS) $(wildcard tests/fuzz/found/*/*)
	@rm -rf $(@D) && $(MAKE_CORPUS) $(@D) && touch $@
$(FAULTS): $(BUILD)/%.so: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo link $@)
	$(Q)$(CC) -std=c17 -D_GNU_SOURCE $(WARNINGS) -O2 -fPIC -shared -o $@ $< -ldl
$(CHECKER): $(OP_SRC:%.c=$(BUILD)/%.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $^ $(ALL_LIBS)

# What ptxas says of registers and spills is kept beside the object, for tests/kernel-spills.sh.
$(PLUGIN_OBJ): $(BUILD)/%.o: %.cu $(BUILD)/flags-cuda
	@mkdir -p $(@D)
	$(if $(V),,@echo nvcc $<)
	$(Q)$(NVCC) $(NVCC_FLAGS) -Xptxas -v -MMD -MP -c -o $@ $< 2>$(@:.o=.ptxas) || { cat $(@:.o=.ptxas) >&2; exit 1; }
	@grep -v -e '^ptxas info' -e '^    [0-9]* bytes stack frame' -e '^ *$$' $(@:.o=.ptxas) >&2 || :
$(PLUGIN): $(PLUGIN_OBJ) kernels/cuda/plugin.map
	$(if $(V),,@echo link $@)
	$(Q)$(NVCC) -ccbin $(CXX) -shared -cudart static -o $@ $(PLUGIN_OBJ) -Xlinker -z,defs,--version-script=kernels/cuda/plugin.map $(NVCC_LIBS)
$(BUILD)/common/train/mpi/plugin.o: $(BUILD)/%.o: %.c $(BUILD)/flags-mpi
	@mkdir -p $(@D)
	$(if $(V),,@echo mpicc $<)
	$(Q)OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(ALL_CFLAGS) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<
$(MPI_PLUGIN): $(BUILD)/common/train/mpi/plugin.o
	$(if $(V),,@echo link $@)
	$(Q)OMPI_CC='$(CC)' MPICH_CC='$(CC)' $(MPICC) $(ALL_CFLAGS) -shared -o $@ $^ $(LDFLAGS)
$(EMULATOR_OBJ) $(TEST_EMULATOR:=.o): $(BUILD)/%.o: %.cc $(BUILD)/flags-on-host
	@mkdir -p $(@D)
	$(if $(V),,@echo compile $<)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -MMD -MP -c -o $@ $<
$(ON_HOST_OBJ): $(BUILD)/tests/cuda-host/%.o: %.cu $(BUILD)/flags-on-host
	@mkdir -p $(@D)
	$(if $(V),,@echo compile $< for the host)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -MMD -MP -c -o $@ -x c++ $<
$(PLUGIN_ON_HOST): $(ON_HOST_OBJ) $(EMULATOR_OBJ) tests/cuda-host/plugin.map
	$(if $(V),,@echo link $@)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -shared -Wl,-z,defs,-z,nodelete,-soname,$(@F) -o $@ $(ON_HOST_OBJ) $(EMULATOR_OBJ) -Wl,--version-script=tests/cuda-host/plugin.map $(LDFLAGS)
$(TEST_EMULATOR): %: %.o $(filter-out %/libraries.o,$(EMULATOR_OBJ)) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -o $@ $^ $(ALL_LIBS)

$(BUILD)/tests/cuda/plan_cache.o: $(BUILD)/%.o: %.cc $(BUILD)/flags-on-host
	@mkdir -p $(@D)
	$(if $(V),,@echo compile $<)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/cuda/plan_cache: $(BUILD)/tests/cuda/plan_cache.o $(BUILD)/tests/cuda-host/kernels/cuda/plan_cache.o $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(CXX) $(ALL_CXXFLAGS) -o $@ $^ $(ALL_LIBS)
$(BUILD)/tests/cuda/convolution_plans.o: $(BUILD)/%.o: %.cu $(BUILD)/flags-cuda
	@mkdir -p $(@D)
	$(if $(V),,@echo nvcc $<)
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/cuda/convolution_plans: $(addprefix $(BUILD)/,tests/cuda/convolution_plans.o kernels/cuda/cudnn_graph.o kernels/cuda/cudnn_plans.o) $(SUPPORT_OBJ) $(BUILD)/libccld.a
	$(if $(V),,@echo link $@)
	$(Q)$(NVCC) -ccbin $(CXX) -cudart static -o $@ $^ $(NVCC_LIBS) $(patsubst -Wl$(comma)%,-Xlinker %,$(filter-out -pthread,$(ALL_LIBS)))

# Included with .incbin.
$(BUILD)/formats/text/embedded.o: formats/text/clip_bpe_merges.txt.zst formats/text/html_entities.txt formats/text/font_8x16.txt

# A second make sees the packages that deps has installed by then.
AGAIN = $(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j $(shell nproc))
# Packages of this machine's architecture: pkg-config does not find those of others.
deps: private WANTED = $(BUILD_PACKAGES) $(TEST_PACKAGES)
deps-build: private WANTED = $(BUILD_PACKAGES)
deps deps-build:
	@missing=; own=$$(dpkg --print-architecture 2>/dev/null); for p in $(WANTED); do \
	    dpkg-query -W -f '$${Architecture} $${Status}\n' $$p 2>/dev/null | grep -Eq "^($$own|all) .* ok installed" || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit; \
	if ! command -v apt-get >/dev/null; then \
	    echo "make deps needs apt-get, as Debian and Ubuntu have it; install the equivalents of:$$missing" >&2; exit 1; fi; \
	if [ $$(id -u) = 0 ]; then as_root=env; elif command -v sudo >/dev/null; then as_root=sudo; else \
	    echo "run this as root: apt-get install --no-install-recommends$$missing" >&2; exit 1; fi; \
	echo "installing$$missing"; \
	$$as_root apt-get -q update && \
	$$as_root DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $$missing

demo: deps-build
	@$(AGAIN) programs
	@$(MAKE) --no-print-directory -f pipelines/demo.mk BIN=$(BUILD) OUT=$(BUILD)/demo

# Everything that needs no GPU.
check: deps
	@$(AGAIN) prove

# Tests that run on several devices; tests/on-device tells each test which one to use.
ON_DEVICES := $(filter %/nets %/gradients %/train %/samplers %/scores %/cloob_step %/autoencoder,$(PARITY))
IN_BF16 := $(filter-out %/samplers,$(ON_DEVICES))
IN_FP16 := $(filter %/nets,$(PARITY))
ON_CPU := $(addprefix cpu-bf16:,$(IN_BF16) tests/fit-resume.sh)
ON_EMULATOR := $(addprefix emulated-fp32:,$(CHECKER) $(ON_DEVICES) tests/cli/run) \
    $(addprefix emulated-bf16:,$(IN_BF16) tests/cli/run) $(addprefix emulated-fp16:,$(IN_FP16))
ON_GPU := $(addprefix gpu-fp32:,$(CHECKER) $(ON_DEVICES) $(BUILD)/tests/unit/muon tests/fit-resume.sh tests/gpu-ranks.sh tests/cli/run) \
    $(addprefix gpu-bf16:,$(IN_BF16) tests/fit-resume.sh tests/cli/run) \
    $(addprefix gpu-fp16:,$(IN_FP16) tests/fit-resume.sh)

PROVE = BUILD=$(BUILD) prove --timer --exec tests/on-device
prove: all tests
	$(PROVE) -j 2 $(CHECKER) $(UNIT) $(TEST_EMULATOR) $(CUDA_TESTS) $(FUZZERS) $(PARITY) $(SCRIPTS) $(ON_CPU) $(ON_EMULATOR)

# Ranks of one host, then of several, which need further packages and root; says how much was skipped.
check-ranks: all tests
	@$(PROVE) tests/ranks.sh tests/mpi/*.sh >$(BUILD)/check-ranks.out 2>&1; status=$$?; cat $(BUILD)/check-ranks.out; \
	echo "check-ranks: $$(grep -c 'skipped: ' $(BUILD)/check-ranks.out) of $(words $(wildcard tests/mpi/*.sh)) tests of several hosts were skipped"; \
	exit $$status

# The part of check-gpu that needs no GPU.
check-emulated: all tests
	$(PROVE) -j 2 $(TEST_EMULATOR) $(CUDA_TESTS) $(ON_EMULATOR)

# What a sanitizer build can run in reasonable time: not full-size networks, nor the pack and the recipes, which run the same programs,
# nor what judges samples of things.
prove-quick: all tests
	$(PROVE) -j 2 $(CHECKER) $(filter-out %/things_look,$(UNIT)) $(TEST_EMULATOR) $(CUDA_TESTS) $(FUZZERS) $(filter-out %/nets,$(PARITY)) \
	    $(filter-out tests/gpu-pack.sh tests/pipelines.sh,$(SCRIPTS))

# Runs on a GPU with CCLD_DEVICE=cuda and, optionally, CCLD_PRECISION.
check-golden: $(PARITY)
	@CCLD_CUDA_PLUGIN='$(or $(CCLD_CUDA_PLUGIN),$(abspath $(PLUGIN)))' tests/golden/run '$(GOLDEN)' $(PARITY)

# Fails with the reason if there is no usable GPU.
GPU = said=$$(BUILD=$(BUILD) tests/on-device gpu-fp32:$(CHECKER) --op fill --cases 0 2>&1) || { \
    echo "$@: no usable GPU: $$(echo "$$said" | sed -n 's/^checker: //p' | tail -n 1)" >&2; exit 1; }
ifeq ($(WITH_CUDA),)
check-gpu check-gpu-memory:
	@echo "$@: nothing to check: the CUDA backend is not built here (CUDA=0, or '$(NVCC)' or cuDNN is missing)" >&2; exit 1
else
check-gpu: all tests
	@$(GPU)
	$(PROVE) $(ON_GPU)

# Runs every kernel under NVIDIA's compute-sanitizer: out-of-bounds accesses, then races in shared
# memory. It makes them about a hundred times slower, so cases are small.
SANITIZER_TOOLS ?= memcheck racecheck
SANITIZER ?= $(or $(wildcard $(CUDA_HOME)/bin/compute-sanitizer),compute-sanitizer)
check-gpu-memory: all tests
	@$(GPU)
	@for tool in $(SANITIZER_TOOLS); do \
	    BUILD=$(BUILD) tests/on-device gpu-fp32:$(SANITIZER) --tool $$tool --error-exitcode 9 $(CHECKER) --cases 6 --work 2e6 \
	        >$(BUILD)/$$tool.out 2>&1; status=$$?; \
	    grep -v '^ok' $(BUILD)/$$tool.out | tail -n 100; echo "$$tool: status $$status"; [ $$status = 0 ] || exit 1; done
endif

# Uses the GPU if there is one.
bench: all tests
	@BUILD=$(BUILD) tests/bench/run

# A folder with all that tests/gpu-session needs, and nothing that has to be installed: $(BUILD)/ccld-gpu and a tar of it.
GPU_PACK := $(if $(WITH_CUDA),$(PLUGIN)) $(TOOLS) $(CHECKER) $(filter-out %/bench-decode %/count,$(BENCHES)) $(ON_DEVICES) $(BUILD)/tests/unit/muon $(SYNTH) $(BUILD)/tests/synth/shapes $(CUDA_TESTS)
gpu-pack: $(GPU_PACK) $(PLUGIN_ON_HOST)
	@BUILD=$(BUILD) pipelines/packaging/build-gpu-pack $(GPU_PACK)

# What a GPU would do for a training step, for sampling and for encoding, and a modelled time. Needs no GPU.
COUNT := $(BUILD)/tests/bench/count
bench-count: $(COUNT) $(PLUGIN_ON_HOST)
	@for o in '' '--batch 256' '--accumulate 4' '--base 64' '--work sample' '--work encode'; do \
	    $(COUNT) --precision bf16 $$o || exit 1; done
	@$(COUNT) --precision fp32

# Samples MODEL, by default the shipped one, and counts the samples that show what their prompts ask for.
FIDELITY_DIR = $(BUILD)/fidelity
bench-fidelity: $(BUILD)/ccld-plms $(FIDELITY)
	@mkdir -p $(FIDELITY_DIR)
	@for l in $(FIDELITY_LISTS); do $(FIDELITY) --list $${l% *} >$(FIDELITY_DIR)/$${l% *} || exit 1; done
	@for g in $(FIDELITY_GUIDANCE); do for l in $(FIDELITY_LISTS); do \
	    $(BUILD)/ccld-plms $(if $(MODEL),-m '$(MODEL)') --prompts $(FIDELITY_DIR)/$${l% *} -n $${l#* } --guidance $$g \
	        --size $(FIDELITY_SIZE) --steps $(FIDELITY_STEPS) --seed $(FIDELITY_SEED) $(FIDELITY_OPTIONS) -b 32 || exit 1; \
	    done; done >$(FIDELITY_DIR)/samples.ppm
	$(FIDELITY) $(FIDELITY_DIR)/samples.ppm

# Uses the GPU if PyTorch finds one. TORCH_MODES: eager, and modes of torch.compile.
TORCH_MODES ?= eager,reduce-overhead
needs_python = $(PYTHON) -c 'import $(subst $() ,$(comma) ,$(1))' 2>/dev/null || { printf '%s\n' \
    "$@: '$(PYTHON)' cannot import $(subst $() , and ,$(1)); try:" 'python3 -m venv build/venv && build/venv/bin/pip install $(1) numpy' \
    'make $@ PYTHON=build/venv/bin/python' >&2; exit 1; }
bench-torch: all $(BUILD)/tests/bench/bench-nets $(BUILD)/tests/bench/bench-fit
	@$(call needs_python,torch)
	@if $(PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	    CCLD_CUDA_PLUGIN=$(abspath $(PLUGIN)) $(PYTHON) tests/bench/bench-torch-gpu.py --build $(BUILD) --modes '$(TORCH_MODES)'; \
	else $(MAKE) --no-print-directory bench-torch-cpu; fi
bench-torch-cpu: $(BUILD)/tests/bench/bench-nets $(BUILD)/tests/bench/bench-fit
	$(PYTHON) tests/bench/bench-torch.py --bench $(BUILD)/tests/bench/bench-nets
	for training in '--base 64 --batch 8' '--base 16 --batch 64' '--net autoencoder' '--net autoencoder --base 32 --side 64 --batch 8' \
	    '--net cloob' '--net cloob --base 16 --side 64 --batch 64'; do \
	    $(PYTHON) tests/bench/bench-torch-fit.py --bench $(BUILD)/tests/bench/bench-fit $$training || exit 1; done
# On the CPU. Converts PyTorch's networks, once.
bench-openvino: $(BUILD)/tests/bench/bench-nets
	@$(call needs_python,torch openvino)
	$(PYTHON) tests/bench/bench-openvino.py --bench $(BUILD)/tests/bench/bench-nets --models $(BUILD)/openvino

# Under ThreadSanitizer, in a folder of its own: what uses threads, and the programs on a little data.
THREADED := $(patsubst %,$(BUILD)/tests/unit/%,threads message files flat_images host_product parameters encode encode_networks image_set latent_set \
    collective_shared watchdog slices cloob_step unet_step pool unfinished shard_store score find)
check-threads:
	@$(AGAIN) prove-threads CUDA=0 MPI=0 SANITIZE=thread BUILD=$(BUILD)/threads
prove-threads: programs $(THREADED) $(SYNTH) $(BUILD)/tests/synth/shapes
	@rm -f $(BUILD)/report.*
	TSAN_OPTIONS=exitcode=66:log_path=$(abspath $(BUILD))/report:die_after_fork=0 $(PROVE) -j 2 $(THREADED) tests/threads/run || { cat $(BUILD)/report.* >&2; exit 1; }

# In a folder of its own, with clang.
FUZZ_BUILD = $(BUILD)/fuzz
fuzz:
	@mkdir -p $(FUZZ_BUILD)
	@echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' | \
	$(CLANG) -x c -fsanitize=fuzzer,address,undefined -o $(FUZZ_BUILD)/probe - 2>$(FUZZ_BUILD)/probe.log || { \
	    echo "fuzz: '$(CLANG)' cannot build with libFuzzer (Debian packages clang and libclang-rt-dev): run 'make deps FUZZ=1' or set CLANG" >&2; exit 1; }
	@$(AGAIN) fuzzers CC=$(CLANG) CUDA=0 MPI=0 WERROR=0 LIBFUZZER=1 CFLAGS='-O1 -g1' BUILD=$(FUZZ_BUILD) SANITIZE=fuzzer-no-link,address,undefined
	@BUILD=$(FUZZ_BUILD) tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ_ONLY)
fuzzers: $(FUZZERS) $(CORPUS)/made

# Ends programs at random for an hour, or SECONDS_LONG, and checks after each time that nothing is lost.
soak: programs tests
	@BUILD=$(BUILD) tests/soak/run

# What programs can check of the style: formatting, common mistakes, man pages, includes, dialect.
# Left out of clang-tidy: kernels for several instruction sets and their choice, which gcc understands.
TIDY_SRC := $(filter-out kernels/cpu/isa%.c,$(LIB_SRC) $(TOOL_SRC))
LINT_TOOLS = clang-format clang-tidy mandoc prove git
lint: programs
	@for t in $(LINT_TOOLS); do command -v $$t >/dev/null || { \
	    echo "lint: $$t is missing: run 'make deps LINT=1'" >&2; exit 1; }; done
	@status=0; \
	clang-format --dry-run -Werror $$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' '*.cu' '*.cuh') || status=1; \
	echo $(TIDY_SRC) | xargs -n 12 -P $$(nproc) sh -c 'clang-tidy --quiet "$$@" -- -std=c17 -D_GNU_SOURCE -DPLUGIN_BUILD_ID=0 -DMPI_PLUGIN_BUILD_ID=0 -I. \
	    $(PKG_CFLAGS) 2>/dev/null' tidy || status=1; \
	mandoc -T lint -W warning man/*.[157] || status=1; \
	BUILD=$(BUILD) prove tests/include-direction.sh tests/dialect.sh || status=1; \
	exit $$status

# DESTDIR and PREFIX may contain blanks.
TO = $(DESTDIR)$(PREFIX)
BASH_COMPLETIONS = $(TO)/share/bash-completion/completions
ZSH_COMPLETIONS = $(TO)/share/zsh/site-functions
FISH_COMPLETIONS = $(TO)/share/fish/vendor_completions.d
install: all
	@$(MAKE) --no-print-directory install-built
install-built:
	install -d '$(TO)/bin' '$(TO)/share/man/man1' '$(TO)/share/man/man5' '$(TO)/share/man/man7' \
	    '$(BASH_COMPLETIONS)' '$(ZSH_COMPLETIONS)' '$(FISH_COMPLETIONS)'
	install $(TOOLS) '$(TO)/bin'
	$(if $(wildcard $(PLUGIN) $(MPI_PLUGIN)),install -D -t '$(TO)/lib/ccld' $(wildcard $(PLUGIN) $(MPI_PLUGIN)))
	install -D -m 644 -t '$(TO)/share/ccld/models/small' models/small/*
	install -m 644 man/*.1 '$(TO)/share/man/man1'
	install -m 644 man/*.5 '$(TO)/share/man/man5'
	install -m 644 man/*.7 '$(TO)/share/man/man7'
	@for t in $(notdir $(TOOLS)); do \
	    $(BUILD)/$$t --completion bash >'$(BASH_COMPLETIONS)'/$$t && \
	    $(BUILD)/$$t --completion zsh >'$(ZSH_COMPLETIONS)'/_$$t && \
	    $(BUILD)/$$t --completion fish >'$(FISH_COMPLETIONS)'/$$t.fish || exit 1; done
# Removes what install writes, and folders that only it has.
uninstall:
	rm -f $(patsubst %,'$(TO)/bin/%',$(notdir $(TOOLS))) $(patsubst %,'$(TO)/lib/ccld/%',$(notdir $(PLUGIN) $(MPI_PLUGIN))) \
	    $(foreach s,1 5 7,$(patsubst man/%,'$(TO)/share/man/man$s/%',$(wildcard man/*.$s))) \
	    $(patsubst %,'$(TO)/share/ccld/%',$(wildcard models/small/*)) \
	    $(foreach t,$(notdir $(TOOLS)),'$(BASH_COMPLETIONS)/$t' '$(ZSH_COMPLETIONS)/_$t' '$(FISH_COMPLETIONS)/$t.fish')
	for d in lib/ccld share/ccld/models/small share/ccld/models share/ccld; do \
	    [ ! -d '$(TO)'/$$d ] || rmdir --ignore-fail-on-non-empty '$(TO)'/$$d || exit 1; done
# A Debian package of what install installs, without CUDA's plugin unless it was built: $(BUILD)/ccld_VERSION_ARCHITECTURE.deb
deb: all
	@BUILD=$(BUILD) MAKE='$(MAKE)' pipelines/packaging/build-deb

# Other compilers, distributions and processors than this machine's, as far as they can be had; needs root.
check-elsewhere:
	@tests/elsewhere/run

help:
	@printf '%s\n' \
	    'make               build the programs into $(BUILD)/' \
	    'make deps          install missing Debian packages, deps-build: without those that only tests need; with MPI=1 also those for training on several hosts' \
	    'make demo          install, build, encode sample photographs, sample a grid of images' \
	    'make check         install, build, run all tests that need no GPU' \
	    'make check-golden GOLDEN=DIR   compare the networks with another folder of golden numbers' \
	    'make check-emulated   run the CUDA tests that need no GPU; part of check' \
	    'make check-ranks   test training on several hosts: needs MPI=1, root, iproute2; slurmctld, slurmd, slurm-client and munge for srun' \
    'make check-gpu     run all CUDA tests on a GPU; check-gpu-memory: under compute-sanitizer' \
	    'make gpu-pack      make a folder that checks and measures on a GPU where nothing can be installed (tests/gpu-session)' \
	    'make bench         time the networks; bench-torch, bench-openvino: PyTorch or OpenVINO on the same networks' \
	    'make bench-count   count what a GPU would do for the networks, and model its time' \
	    'make bench-fidelity   measure how often samples of MODEL show the shape and color of their prompt; with WORLD=things the things' \
	    'make check-threads   run what uses threads under ThreadSanitizer' \
	    'make fuzz          fuzz every parser for FUZZ_SECONDS each; needs clang with libFuzzer (make deps FUZZ=1)' \
	    'make soak          end programs at random for SECONDS_LONG (3600) and check that nothing is lost' \
	    'make lint          check style: clang-format, clang-tidy, man pages, includes, dialect' \
	    'make install       install programs, plugins, small model, man pages and completions under DESTDIR and PREFIX' \
	    'make uninstall     remove what install has installed; with the same DESTDIR and PREFIX' \
	    'make deb           build a Debian package in $(BUILD)/' \
	    'make check-elsewhere   build and try with other compilers and distributions, and on arm64; needs root' \
	    'make clean         remove $(BUILD)/' \
    'Variables: CUDA=1|0, CUDNN=DIR, NCCL=DIR, MPI=1|0, WERROR=1, SANITIZE=address,undefined, V=1, FORMATS="gif tiff heif avif jxl"; pipelines/*.mk are further makefiles'

clean:
	rm -rf $(BUILD)

FORCE:
.PHONY: all programs tests deps deps-build demo check check-elsewhere check-ranks prove prove-quick check-golden check-emulated check-gpu check-gpu-memory gpu-pack bench bench-count bench-fidelity bench-torch bench-torch-cpu bench-openvino check-threads prove-threads fuzz fuzzers soak lint install install-built uninstall deb help clean FORCE
.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(SUPPORT_OBJ:.o=.d) $(THINGS_SRC:%.c=$(BUILD)/%.d) $(TOOL_SRC:%.c=$(BUILD)/%.d) $(TEST_MAIN:%.c=$(BUILD)/%.d) $(patsubst %.c,$(BUILD)/%.d,$(FUZZ_SRC) $(CORPUS_SRC) $(FUZZ_SUPPORT_SRC)) $(OP_SRC:%.c=$(BUILD)/%.d) $(PLUGIN_OBJ:.o=.d) $(EMULATOR_OBJ:.o=.d) $(TEST_EMULATOR:=.d) $(CUDA_TESTS:=.d) $(ON_HOST_OBJ:.o=.d) $(MPI_SIGNED:.o=.d)
