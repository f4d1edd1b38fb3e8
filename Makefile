# Build, test and install ckpt. Everything made goes into $(BUILD); `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
ARCH    := x86_64
OPT     ?= -O2 -g

HOSTED_FLAGS = -std=c++20 $(OPT) -Wall -Wextra -I. -ffunction-sections -fdata-sections -MMD -MP
# No libc below: g++ keeps the stack protector and the assertions of libstdc++ on under -ffreestanding, and both call into a libc.
FREE_FLAGS = -std=c++20 $(OPT) -Wall -Wextra -I. -ffreestanding -fno-exceptions -fno-rtti -fno-stack-protector \
  -fno-threadsafe-statics -U_GLIBCXX_ASSERTIONS -U_FORTIFY_SOURCE -fvisibility=hidden -ffunction-sections -fdata-sections \
  -Wframe-larger-than=$(or $(FRAME),32768) -MMD -MP
RUNTIME_FLAGS  = $(FREE_FLAGS) -fPIC
RESTORER_FLAGS = $(FREE_FLAGS) -fPIE -fno-asynchronous-unwind-tables

# Two mappings, text and data: each one more makes every fork of the program dearer by half a percent (lib/runtime/state.h).
RUNTIME_LINK = -shared -nostdlib -Wl,-soname,libckpt.so -Wl,-z,now -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,-z,noexecstack -Wl,-z,defs \
  -Wl,--gc-sections -Wl,--build-id -Wl,--hash-style=gnu -Wl,--exclude-libs,ALL
RESTORER_LINK = -static-pie -nostdlib -Wl,--gc-sections -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,-z,noexecstack -Wl,-e,_start
HOSTED_LIBS = -lboost_filesystem -lboost_system -lzstd -llz4
CODECS = -l:libzstd.a -l:liblz4.a

# One line for each thing that is made; V=1 shows the commands instead, and make -s nothing.
ifeq ($(V),1)
else ifneq ($(findstring s,$(firstword -$(MAKEFLAGS))),)
quiet = @
else
quiet = @
say = @printf '  %-4s %s\n' $(1) $(2)
endif

# --- sources, by globs: a new file needs no line here ---
SYS      := $(wildcard $(addprefix lib/sys/,*.cc *.S arch/$(ARCH)/*.cc arch/$(ARCH)/*.S))
BOTH     := lib/resources/terminals/pair.cc
RUNTIME  := $(SYS) $(BOTH) $(wildcard lib/resources/*/collect*.cc $(addprefix lib/runtime/,*.cc *.S wrappers/*.cc wrappers/*.S))
RESTORER := $(SYS) $(wildcard lib/resources/*/rebuild-engine*.cc restart/engine/*.cc restart/engine/*.S)
COMMON   := $(wildcard lib/common/*.cc)
RESTART  := $(filter-out %/rebuild-engine.cc,$(BOTH) $(wildcard restart/*.cc lib/resources/*/rebuild*.cc lib/sys/arch/$(ARCH)/*.cc))
COMMANDS := $(patsubst src/%.cc,%,$(wildcard src/*.cc))
WRAPPERS := $(notdir $(wildcard bin/*))

objects = $(patsubst %,$(BUILD)/obj/$(1)/%.o,$(2))
RUNTIME_OBJECTS  := $(call objects,runtime,$(RUNTIME))
RESTORER_OBJECTS := $(call objects,restorer,$(RESTORER))
COMMON_OBJECTS   := $(call objects,hosted,$(COMMON))
RESTART_OBJECTS  := $(call objects,hosted,$(RESTART))
COMMAND_OBJECTS  := $(call objects,hosted,$(wildcard src/*.cc))

LIBCKPT  := $(if $(wildcard lib/runtime/*.cc),$(BUILD)/lib/ckpt/libckpt.so)
ENGINE   := $(if $(wildcard restart/engine/*.cc),$(BUILD)/libexec/ckpt/ckpt-restorer)
PROGRAMS := $(addprefix $(BUILD)/bin/,$(COMMANDS) $(WRAPPERS))

.PHONY: all help deps demo check check-real lint bench install uninstall clean test-progs deps-build deps-check deps-check-real \
  deps-lint deps-bench
.DELETE_ON_ERROR:
.SECONDARY:

all: $(LIBCKPT) $(ENGINE) $(PROGRAMS)

help:
	@echo 'all         build everything into $(BUILD)/ (the default); V=1 shows the commands'
	@echo 'demo        compute, checkpoint, kill, restart, compare'
	@echo 'deps        install the packages that all, demo and check need (YES=1: without asking)'
	@echo 'check       the tests, as root and as an ordinary user'
	@echo 'check-real  the tests with heavier real programs'
	@echo 'lint        formatting, shell, man pages, layering, sizes'
	@echo 'bench       costs, against an undisturbed run'
	@echo 'install     into PREFIX ($(PREFIX)), below DESTDIR if set; uninstall takes it away'
	@echo 'clean       remove $(BUILD)/'

-include tests/progs/rules.mk

# --- packages: each of these stops with the apt-get line where something is missing ---
deps:
	@.ci/deps build check
deps-build deps-check deps-check-real deps-lint deps-bench: deps-%:
	@.ci/deps build $*
$(RUNTIME_OBJECTS) $(RESTORER_OBJECTS) $(COMMON_OBJECTS) $(RESTART_OBJECTS) $(COMMAND_OBJECTS): | deps-build

# What runs on the stack of a thread of the program must get by with little of it.
$(BUILD)/obj/runtime/lib/runtime/freeze.cc.o $(BUILD)/obj/runtime/lib/runtime/interruption.cc.o \
  $(BUILD)/obj/runtime/lib/runtime/signal-entry.cc.o $(BUILD)/obj/runtime/lib/runtime/translator.cc.o \
  $(BUILD)/obj/runtime/lib/runtime/shifted-times.cc.o: FRAME = 1536
# They stand in for a system call, which leaves the other registers alone.
$(BUILD)/obj/runtime/lib/runtime/translator.cc.o $(BUILD)/obj/runtime/lib/runtime/shifted-times.cc.o \
  $(BUILD)/obj/runtime/lib/sys/proc-file.cc.o: RUNTIME_FLAGS += -mgeneral-regs-only

# --- the preload runtime and the restorer: no libc, no relocation that needs one ---
$(BUILD)/obj/runtime/%.o: %
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(quiet)$(CXX) $(RUNTIME_FLAGS) -c $< -o $@
$(BUILD)/obj/restorer/%.o: %
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(quiet)$(CXX) $(RESTORER_FLAGS) -c $< -o $@
$(BUILD)/lib/ckpt/libckpt.so: $(RUNTIME_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(quiet)$(CXX) $(RUNTIME_LINK) $^ $(CODECS) -o $@.new
	@.ci/check-freestanding runtime $@.new
	@mv $@.new $@
$(BUILD)/libexec/ckpt/ckpt-restorer: $(RESTORER_OBJECTS)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(quiet)$(CXX) $(RESTORER_LINK) $^ $(CODECS) -o $@.new
	@.ci/check-freestanding restorer $@.new
	@mv $@.new $@

# --- the commands: all libraries linked in, so that one built here runs on the next machine ---
$(BUILD)/obj/hosted/%.o: %
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(quiet)$(CXX) $(HOSTED_FLAGS) -c $< -o $@
$(BUILD)/lib/libckpt-common.a: $(COMMON_OBJECTS)
	@mkdir -p $(@D)
	@rm -f $@.new
	$(call say,AR,$@)
	$(quiet)$(AR) rcs $@.new $^
	@mv $@.new $@
$(BUILD)/bin/ckpt-restart: $(RESTART_OBJECTS)
$(addprefix $(BUILD)/bin/,$(COMMANDS)): $(BUILD)/bin/%: $(BUILD)/obj/hosted/src/%.cc.o $(BUILD)/lib/libckpt-common.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(quiet)$(CXX) $(OPT) -static -Wl,--gc-sections $(filter %.o,$^) $(filter %.a,$^) $(HOSTED_LIBS) -o $@.new
	@mv $@.new $@
$(addprefix $(BUILD)/bin/,$(WRAPPERS)): $(BUILD)/bin/%: bin/%
	@mkdir -p $(@D)
	$(call say,COPY,$@)
	$(quiet)install -m 755 $< $@

# Test helpers that use the common library; tests/progs/rules.mk builds the programs under test.
HELPERS := $(patsubst tests/progs/%.cc,$(BUILD)/tests/%,$(wildcard tests/progs/make-*.cc))
test-progs: $(HELPERS)
$(HELPERS): $(BUILD)/tests/%: $(BUILD)/obj/hosted/tests/progs/%.cc.o $(BUILD)/lib/libckpt-common.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(quiet)$(CXX) $(OPT) $(filter %.o,$^) $(filter %.a,$^) $(HOSTED_LIBS) -o $@

# --- what to do with it ---
demo: deps-check all
	@BUILD=$(BUILD) .ci/demo
check: deps-check all test-progs
	@BUILD=$(BUILD) .ci/check check $(wildcard tests/*.bats)
check-real: deps-check-real deps-check all test-progs
	@BUILD=$(BUILD) .ci/check check-real $(wildcard tests/real/*.bats)
lint: deps-lint all
	@BUILD=$(BUILD) .ci/lint
bench: deps-bench all test-progs
	@BUILD=$(BUILD) bench/run

bindir  = $(DESTDIR)$(PREFIX)/bin
libdir  = $(DESTDIR)$(PREFIX)/lib/ckpt
execdir = $(DESTDIR)$(PREFIX)/libexec/ckpt
mandir  = $(DESTDIR)$(PREFIX)/share/man
compdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
docdir  = $(DESTDIR)$(PREFIX)/share/doc/ckpt
MAN_SECTIONS = 1 5 7
DOCS = README.md NEWS.md LICENSE $(wildcard docs/*.md)

install: all
	install -d $(bindir) $(libdir) $(execdir) $(compdir) $(docdir) $(addprefix $(mandir)/man,$(MAN_SECTIONS))
	install -m 755 $(PROGRAMS) $(bindir)
	$(if $(LIBCKPT),install -m 755 $(LIBCKPT) $(libdir))
	$(if $(ENGINE),install -m 755 $(ENGINE) $(execdir))
	install -m 644 $(wildcard completions/*) $(compdir)
	install -m 644 $(DOCS) $(docdir)
	for section in $(MAN_SECTIONS); do install -m 644 man/*.$$section $(mandir)/man$$section || exit; done

uninstall:
	rm -f $(addprefix $(bindir)/,$(COMMANDS) $(WRAPPERS)) $(addprefix $(compdir)/,$(notdir $(wildcard completions/*)))
	rm -f $(foreach section,$(MAN_SECTIONS),$(addprefix $(mandir)/man$(section)/,$(notdir $(wildcard man/*.$(section)))))
	rm -rf $(libdir) $(execdir) $(docdir)

clean:
	rm -rf $(BUILD)

HELPER_OBJECTS := $(patsubst $(BUILD)/tests/%,$(BUILD)/obj/hosted/tests/progs/%.cc.o,$(HELPERS))
-include $(patsubst %.o,%.d,$(HELPER_OBJECTS) $(RUNTIME_OBJECTS) $(RESTORER_OBJECTS) $(COMMON_OBJECTS) $(RESTART_OBJECTS) $(COMMAND_OBJECTS))
