# SPDX-License-Identifier: BSD-3-Clause
#
# One makefile for the whole tree; the folders only list their sources, in
# <folder>/module.mk. `make help` lists the targets.
#
# Every variant has a build folder of its own, so objects of different kinds
# never mix:  make VARIANT=release|asan|tsan|fuzz|coverage|broken
#
#	release  $(BUILD)       what gets installed; asserts stay on
#	asan     $(BUILD)/asan  AddressSanitizer and UBSan
#	tsan     $(BUILD)/tsan  ThreadSanitizer
#	fuzz     $(BUILD)/fuzz  clang, instrumented for libFuzzer
#	coverage $(BUILD)/coverage  gcc, counts what runs
#	broken   $(BUILD)/broken  for one test: can break rules of durability
#
# Other knobs: BUILD= (folder), V=1 (full command lines), WERROR=0|1,
# CC=, CFLAGS=, LDFLAGS=, PREFIX=, DESTDIR=, LINKS=1, T=pattern (tests).

.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules --no-print-directory

VERSION := $(shell cat VERSION)
BUILD   ?= build
VARIANT ?= release
V       ?= 0
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man
PYTHON  ?= /usr/bin/python3

PKG_CONFIG   ?= pkg-config
CLANG        ?= clang
CLANG_FORMAT ?= clang-format

# A git checkout belongs to a developer; a released tree does not, and a newer
# compiler's new warning must not break it.
WERROR ?= $(if $(wildcard .git),1,0)

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin AR),default)
AR := ar
endif

# --- what to build -----------------------------------------------------------

SRC :=
include $(wildcard */module.mk */*/module.mk)

OUT  := $(BUILD)$(if $(filter-out release,$(VARIANT)),/$(VARIANT))
MAIN := cli/main.c

LIB_SRC     := $(filter-out $(MAIN),$(SRC))
SUPPORT_SRC := $(wildcard tests/support/*.c)
UNIT_SRC    := $(wildcard tests/unit/test_*.c)
CRASH_SRC   := $(wildcard tests/crash/*.c)
FAULT_SRC   := $(wildcard tests/fault/*.c)
FUZZ_SRC    := $(wildcard tests/fuzz/fuzz_*.c)
SANDBOX_SRC := $(wildcard tests/sandbox/*.c)
PEER_SRC    := $(wildcard tests/crash-peer/*.c)
TEST_SRC    := $(UNIT_SRC) $(CRASH_SRC) $(FAULT_SRC) $(SANDBOX_SRC) \
	$(PEER_SRC) $(FUZZ_SRC)

PROGRAM := $(OUT)/platter
LIB     := $(OUT)/libplatter.a
SUPPORT := $(OUT)/libsupport.a

LIB_OBJ       := $(LIB_SRC:%.c=$(OUT)/%.o)
MAIN_OBJ      := $(MAIN:%.c=$(OUT)/%.o)
SUPPORT_OBJ   := $(SUPPORT_SRC:%.c=$(OUT)/%.o)
TEST_PROGRAMS := $(patsubst %.c,$(OUT)/%,$(UNIT_SRC) $(CRASH_SRC) $(FAULT_SRC) \
	$(SANDBOX_SRC) $(PEER_SRC))
FUZZ_PROGRAMS := $(FUZZ_SRC:%.c=$(OUT)/%)
MAN1          := $(wildcard cli/*.1)

# --- libraries ---------------------------------------------------------------

# Each dependency once. Asked when the first recipe needs the answer, so that
# `make deps` and `make help` work on a machine that has nothing yet.
PKGS := libisal libdeflate zlib libzstd liblz4 libcrypto jansson libseccomp \
	libnbd liburing

pkg = $(or $(shell $(PKG_CONFIG) $(1) $(2)),$(if $(filter 0,$(.SHELLSTATUS)),,\
	$(error $(PKG_CONFIG) does not know all of: $(2); run "make deps")))
PKG_CFLAGS  = $(eval PKG_CFLAGS := $(call pkg,--cflags,$(PKGS)))$(PKG_CFLAGS)
PKG_LIBS    = $(eval PKG_LIBS := $(call pkg,--libs,$(PKGS)))$(PKG_LIBS)
CMOCKA_LIBS = $(eval CMOCKA_LIBS := $(call pkg,--libs,cmocka))$(CMOCKA_LIBS)

# --- flags -------------------------------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wvla -Walloca -Wundef -Wpointer-arith \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wwrite-strings -Wcast-qual -Wformat=2 -Wswitch-enum \
	-Wimplicit-fallthrough -Wnull-dereference -fno-common
ifeq ($(WERROR),1)
WARN += -Werror
endif

# Parsers of untrusted bytes may be compiled more strictly still, for example
# with FORMATS_CFLAGS=-Wconversion.
FORMATS_CFLAGS ?=

# What tests/interop/test_release_is_hardened.py looks for in the program.
# Automatic variables that nobody set hold zeros, where the compiler can do it.
cc-takes = $(shell $(CC) -Werror $(1) -fsyntax-only -x c /dev/null \
	>/dev/null 2>&1 && echo $(1))
ZERO_INIT = $(eval ZERO_INIT := \
	$(call cc-takes,-ftrivial-auto-var-init=zero))$(ZERO_INIT)
HARDEN_x86_64 := -fcf-protection
HARDEN = -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong \
	-fstack-clash-protection $(HARDEN_$(shell uname -m)) \
	$(ZERO_INIT)

# gcc sees null pointers in the checks that its own sanitizers insert.
SANITIZED := -O1 -fno-omit-frame-pointer -Wno-null-dereference \
	-Wno-maybe-uninitialized
UBSAN := -fno-sanitize-recover=all

ifeq ($(VARIANT),release)
VARIANT_CFLAGS  := -O2 $(HARDEN)
VARIANT_LDFLAGS := -Wl,-z,relro,-z,now,-z,noexecstack
else ifeq ($(VARIANT),asan)
VARIANT_CFLAGS  := $(SANITIZED) -fsanitize=address,undefined $(UBSAN)
VARIANT_LDFLAGS := -fsanitize=address,undefined
else ifeq ($(VARIANT),tsan)
VARIANT_CFLAGS  := $(SANITIZED) -fsanitize=thread
VARIANT_LDFLAGS := -fsanitize=thread
else ifeq ($(VARIANT),coverage)
VARIANT_CFLAGS  := -O0 --coverage -fprofile-update=atomic -DPLATTER_COVERAGE
VARIANT_LDFLAGS := --coverage
else ifeq ($(VARIANT),fuzz)
CC := $(CLANG)
# Large buffers are mapped and poisoned anew for every input; the ends of small
# ones are met more often too.
VARIANT_CFLAGS  := -O2 -fno-omit-frame-pointer $(UBSAN) \
	-DPLATTER_SMALL_BUFFERS -fsanitize=fuzzer-no-link,address,undefined
VARIANT_LDFLAGS := -fsanitize=address,undefined
else ifeq ($(VARIANT),broken)
VARIANT_CFLAGS  := -O2 $(HARDEN) -DPLATTER_BREAKABLE
VARIANT_LDFLAGS :=
else
$(error VARIANT is "$(VARIANT)"; it has to be release, asan, tsan, fuzz, \
	coverage or broken)
endif

CFLAGS ?=
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I. -g -fPIE -pthread $(WARN) \
	$(VARIANT_CFLAGS) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = -pie -pthread -Wl,--as-needed $(VARIANT_LDFLAGS) $(LDFLAGS)
VERSION_CFLAGS := -DPLATTER_VERSION='"$(VERSION)"'

ifeq ($(V),1)
say = @:
Q :=
else
say = @printf '  %-7s %s\n'
Q := @
endif

# --- building ----------------------------------------------------------------

.PHONY: all
all: $(PROGRAM) $(LIB) ## build the program and the library (default)

$(OUT)/cli/%.o: EXTRA_CFLAGS := $(VERSION_CFLAGS)
$(OUT)/formats/%.o: EXTRA_CFLAGS := $(FORMATS_CFLAGS)

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(say) CC $@
	$(Q)$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -MMD -MP -c -o $@ $<

# Appended, not replaced: two folders may hold files of one name.
$(LIB): $(LIB_OBJ) $(OUT)/sources
$(SUPPORT): $(SUPPORT_OBJ) $(OUT)/sources
$(LIB) $(SUPPORT):
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) qcs $@ $(filter %.o,$^)

$(PROGRAM): $(MAIN_OBJ) $(LIB)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) $(PKG_LIBS)

$(TEST_PROGRAMS): $(OUT)/%: $(OUT)/%.o $(SUPPORT) $(LIB)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o %.a,$^) \
		$(CMOCKA_LIBS) $(PKG_LIBS)

# The kernel's ring may be full, whenever the test wants it to be.
$(OUT)/tests/unit/test_queue: private VARIANT_LDFLAGS += \
	-Xlinker --wrap=io_uring_submit

# Its allocator is one that fails.
$(OUT)/tests/fault/fault_memory: private VARIANT_LDFLAGS += \
	$(addprefix -Xlinker --wrap=,malloc calloc realloc reallocarray \
	aligned_alloc posix_memalign strdup strndup)

# To see what the seeds reach, the targets take files without libFuzzer.
REPLAY := $(if $(filter coverage,$(VARIANT)),$(OUT)/tests/fuzz/replay.o)
$(FUZZ_PROGRAMS): $(OUT)/%: $(OUT)/%.o $(REPLAY) $(SUPPORT) $(LIB)
	$(say) LINK $@
	$(Q)$(CC) $(ALL_LDFLAGS) $(if $(REPLAY),,-fsanitize=fuzzer) -o $@ \
		$(filter %.o %.a,$^) $(CMOCKA_LIBS) $(PKG_LIBS)

# Put before the C library of the program under test: its calls fail, or are
# recorded. No sanitizer, no hardening: nothing else may come between.
SHIM     := $(BUILD)/tests/shim/fault.so
RECORDER := $(BUILD)/tests/shim/record.so
$(RECORDER): tests/support/record.h
$(SHIM): tests/shim/fault-plan.c tests/shim/fault-plan.h
$(SHIM) $(RECORDER): $(BUILD)/%.so: %.c | $(OUT)
	$(say) SHIM $@
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O1 -g $(WARN) -fno-builtin -fPIC \
		-I. -shared -o $@ $(filter %.c,$^)

# Stamps that change only when their text does: other flags rebuild the
# objects, a source that went away rebuilds the archives.
.PHONY: FORCE
define stamp
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(1))' >$@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
endef

$(OUT)/flags: FORCE | $(OUT)
	$(call stamp,$(CC) $(ALL_CFLAGS) $(VERSION_CFLAGS) $(FORMATS_CFLAGS))

$(OUT)/sources: FORCE | $(OUT)
	$(call stamp,$(SRC) $(SUPPORT_SRC))

$(OUT):
	@mkdir -p $@

-include $(patsubst %.c,$(OUT)/%.d,$(SRC) $(SUPPORT_SRC) $(TEST_SRC))

# --- getting started ---------------------------------------------------------

# DEPS=0 leaves the machine's packages alone.
DEPS ?= 1
install-deps = $(if $(filter 1,$(DEPS)),@scripts/deps.sh $(1))

.PHONY: deps quickstart
deps: ## install the Debian packages that building and testing need
	@scripts/deps.sh build quickstart test

quickstart: ## install what is missing, build, and convert a real disk
	$(call install-deps,build quickstart)
	@$(MAKE) all
	@PLATTER=$(PROGRAM) scripts/quickstart.sh $(BUILD)/quickstart

# --- testing -----------------------------------------------------------------

# T=pattern runs only the tests whose path matches. The plus hands this make's
# jobs down to the makes that the script runs; `make -n` has to stay harmless.
RUN_TESTS = $(if $(findstring n,$(firstword -$(MAKEFLAGS))),,+)@MAKE='$(MAKE)' BUILD='$(BUILD)' PYTHON='$(PYTHON)' \
	V='$(V)' T='$(T)' scripts/run-tests.sh
install-test-deps = $(call install-deps,build quickstart test)

.PHONY: test check test-unit test-asan test-tsan fuzz crash crash-long crash-peer fault bench
.PHONY: test-programs fuzz-programs test-valgrind coverage

test: ## run everything in its short form; T=pattern picks by path
	$(install-test-deps)
	$(RUN_TESTS) tidy unit crash peer fault shim fuzz cli interop \
		differential hostile

check: test ## the same as test

test-unit: ## unit tests only, under ASan
	$(install-test-deps)
	$(RUN_TESTS) unit

test-asan: ## every test program and command under ASan and UBSan
	$(install-test-deps)
	$(RUN_TESTS) --variant asan unit crash fault cli interop

test-tsan: ## every test program and command under TSan
	$(install-test-deps)
	$(RUN_TESTS) --variant tsan unit crash fault cli interop

# SECONDS=n, TARGET=name. The shell has a SECONDS of its own.
FUZZ_SECONDS ?= $(if $(filter command,$(origin SECONDS)),$(SECONDS),300)
fuzz: export FUZZ_RUNS := $(RUNS)
fuzz: export FUZZ_SECONDS := $(FUZZ_SECONDS)
fuzz: FUZZ_T = $(if $(TARGET),/fuzz_($(TARGET:fuzz_%=%))\.c$$,$(T))
fuzz: ## fuzz a target SECONDS (300), at most RUNS times; TARGET=name
	$(install-test-deps)
	$(subst T='$(T)',T='$(FUZZ_T)',$(RUN_TESTS)) --long fuzz

# The seed is printed; with it and the same STATES it judges the same states.
# JOBS=n: so many processes, as many as there are processors otherwise.
STATES ?= 1000000
SEED   ?= $(shell date +%s)

crash: ## judge STATES (1000000) or more crash states of qcow2; SEED=n, JOBS=n
	$(install-test-deps)
	@$(MAKE) $(OUT)/tests/crash/crash_qcow2
	@$(OUT)/tests/crash/crash_qcow2 --states $(STATES) --seed $(SEED) \
		$(if $(JOBS),--jobs $(JOBS))

crash-long: ## the crash and fault tests in their long form
	$(install-test-deps)
	$(RUN_TESTS) --long crash fault

.PHONY: hostile
hostile: ## hostile images, all values of every field
	$(install-test-deps)
	$(RUN_TESTS) --long hostile

PEER := $(OUT)/tests/crash-peer/crash_peer
crash-peer: $(PROGRAM) $(RECORDER) ## crash states of platter and of qemu-io
	@$(MAKE) $(PEER)
	@$(PEER) --platter $(PROGRAM) --recorder $(RECORDER) $(PEER_ARGS)

fault: $(PROGRAM) $(SHIM) ## let every call of the built program fail, in turn
	@$(PYTHON) -B tests/shim/inject.py $(FAULT_ARGS) $(PROGRAM) $(SHIM)

.PHONY: test-guest
test-guest: $(PROGRAM) ## guests (software emulation) on disks that we serve
	$(call install-deps,build quickstart test guest)
	@tests/guest/make-kit.sh $(BUILD)/guest
	@GUEST_KIT=$(BUILD)/guest PLATTER=$(PROGRAM) $(PYTHON) -m pytest -q \
		-p no:cacheprovider tests/guest

.PHONY: differential
IMAGES ?= 5000
FIRST  ?= 0
differential: $(PROGRAM) ## random operations on IMAGES (5000), as QEMU; SEED=s
	$(install-test-deps)
	@$(PYTHON) -B tests/differential/run.py --images $(IMAGES) \
		--first $(FIRST) --seed $(SEED) $(PROGRAM)

NBD_LOAD := $(BUILD)/bench/nbd-load
$(NBD_LOAD): bench/nbd-load.c nbd-server/wire.h block/bytes.h
	@mkdir -p $(@D)
	$(say) LINK $@
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -I. $(WARN) -pthread -o $@ $<

.PHONY: bench-nbd
bench-nbd: ## compare the speed of NBD servers
	$(call install-deps,build quickstart test bench)
	@$(MAKE) all $(NBD_LOAD)
	@PLATTER=$(PROGRAM) NBD_LOAD=$(NBD_LOAD) bench/nbd $(BENCH_ARGS)

bench: ## compare speed with other tools
	$(call install-deps,build quickstart test bench)
	@$(MAKE) all
	@PLATTER=$(PROGRAM) bench/run $(BENCH_ARGS)

test-valgrind: ## a set of commands under valgrind
	$(call install-deps,build quickstart test deep)
	@$(MAKE) all
	@PLATTER=$(PROGRAM) scripts/valgrind.sh $(BUILD)/valgrind

# Without interop, whose commands take as long as all others together and reach
# little more.
coverage: ## branches of block/ and formats/ that the tests reach
	$(install-test-deps)
	@find $(BUILD)/coverage -name '*.gcda' -delete 2>/dev/null || true
	$(RUN_TESTS) --variant coverage unit crash fault shim replay \
		hostile cli
	@$(PYTHON) scripts/coverage $(BUILD)/coverage block formats

test-programs: $(TEST_PROGRAMS)
fuzz-programs: $(FUZZ_PROGRAMS)

# --- looking at the code -----------------------------------------------------

C_FILES = $(shell find block formats nbd-server cli tests bench -name '*.[ch]' | sort)

.PHONY: tidy format format-check analyze
tidy: ## check include arrows, banned calls, layout and scripts
	@CLANG_FORMAT='$(CLANG_FORMAT)' $(PYTHON) scripts/tidy

format: ## rewrite the C files in the repository's layout
	$(Q)$(CLANG_FORMAT) -i $(C_FILES)

format-check: ## check the layout of the C files only
	@CLANG_FORMAT='$(CLANG_FORMAT)' $(PYTHON) scripts/tidy --only format

analyze: ## static analysis with clang and cppcheck
	$(call install-deps,build quickstart test analyze)
	@CLANG='$(CLANG)' scripts/analyze.sh -D_GNU_SOURCE -I. \
		$(PKG_CFLAGS) $(VERSION_CFLAGS) -- $(SRC)

.PHONY: compile_commands.json
compile_commands.json: ## describe the build to editors and clang tools
	$(say) GEN $@
	$(Q)$(PYTHON) scripts/compile-commands $@ \
		$(CC) $(ALL_CFLAGS) $(VERSION_CFLAGS) -- \
		$(SRC) $(SUPPORT_SRC) $(TEST_SRC)

# --- installing and releasing ------------------------------------------------

# LINKS=1 adds the drop-in names. Off by default: they would hide the QEMU
# tools of a machine that has both.
LINKS      ?= 0
LINK_NAMES := qemu-img qemu-io qemu-nbd

.PHONY: install uninstall dist clean help
install: all ## install below DESTDIR and PREFIX; LINKS=1 adds drop-in names
	install -d '$(DESTDIR)$(BINDIR)'
	install -m 755 $(PROGRAM) '$(DESTDIR)$(BINDIR)/platter'
ifneq ($(MAN1),)
	install -d '$(DESTDIR)$(MANDIR)/man1'
	install -m 644 $(MAN1) '$(DESTDIR)$(MANDIR)/man1'
endif
ifeq ($(LINKS),1)
	for name in $(LINK_NAMES); do \
		ln -sfn platter '$(DESTDIR)$(BINDIR)'/$$name || exit 1; \
	done
endif

# A link goes only if it is ours.
uninstall: ## remove what install put there
	rm -f '$(DESTDIR)$(BINDIR)/platter'
	for name in $(LINK_NAMES); do \
		link='$(DESTDIR)$(BINDIR)'/$$name; \
		if [ "$$(readlink "$$link")" = platter ]; then \
			rm -f "$$link"; \
		fi; \
	done
	for page in $(notdir $(MAN1)); do \
		rm -f '$(DESTDIR)$(MANDIR)'/man1/$$page; \
	done

dist: ## pack the committed tree into platter-VERSION.tar.zst
	$(Q)mkdir -p $(BUILD)
	$(Q)git archive --format=tar --prefix=platter-$(VERSION)/ \
		-o $(BUILD)/platter-$(VERSION).tar HEAD
	$(Q)zstd -q -f -19 --rm $(BUILD)/platter-$(VERSION).tar
	@echo $(BUILD)/platter-$(VERSION).tar.zst

clean: ## remove everything that was built
	rm -rf $(BUILD) compile_commands.json

help: ## list the targets
	@sed -n 's/^\([a-z_.-]*\):.*## \(.*\)/\1\t\2/p' Makefile | \
		while IFS='	' read -r target text; do \
			printf '  %-22s %s\n' "$$target" "$$text"; \
		done
