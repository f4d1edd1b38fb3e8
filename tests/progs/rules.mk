# The programs under test, each from one file: $(BUILD)/tests/<trait>. Included by the Makefile; `make test-progs` builds them.
# -O1 -g: gdb must find the names, and the compiler must not optimise a state away.
VICTIM_CC ?= gcc
VICTIM_CXX ?= g++
VICTIM_FLAGS := -O1 -g -pthread -Wall -Wextra

VICTIM_HEADERS := $(wildcard tests/progs/*.h)
VICTIM_C := $(wildcard tests/progs/*.c)
VICTIMS_OF_C := $(VICTIM_C:tests/progs/%.c=$(BUILD)/tests/%)
VICTIMS_OF_CC := $(BUILD)/tests/normal-end

test-progs: $(VICTIMS_OF_C) $(VICTIMS_OF_CC) $(BUILD)/tests/freeze-loop

$(VICTIMS_OF_C): $(BUILD)/tests/%: tests/progs/%.c $(VICTIM_HEADERS) tests/progs/rules.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(quiet)$(VICTIM_CC) -std=gnu11 $(VICTIM_FLAGS) -o $@ $<

$(VICTIMS_OF_CC): $(BUILD)/tests/%: tests/progs/%.cc $(VICTIM_HEADERS) tests/progs/rules.mk
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(quiet)$(VICTIM_CXX) -std=gnu++20 $(VICTIM_FLAGS) -o $@ $<

# A tool of the tests that asks for checkpoints as the commands do.
$(BUILD)/tests/freeze-loop: $(BUILD)/obj/hosted/tests/progs/freeze-loop.cc.o $(BUILD)/lib/libckpt-common.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(quiet)$(CXX) $(OPT) $^ -lboost_filesystem -lboost_system -lzstd -llz4 -o $@
-include $(BUILD)/obj/hosted/tests/progs/freeze-loop.cc.d
