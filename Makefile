# mp -- `make help` says what there is.
#
# Sources are found by wildcard: runtime/<floor>/*.c, without *_test.c, which become test
# programs, and lua/mp/*.lua, which are embedded. Adding a file needs no change here.
# Nothing below uses the network except `make deps` when a package is missing.

MODE ?= release
ifeq ($(MODE),release)
BUILD ?= build
else
BUILD ?= build/$(MODE)
endif
ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar
OBJCOPY ?= objcopy
PREFIX ?= /usr/local
LUA_VERSION := 5.4
LUA_INC ?= /usr/include/lua$(LUA_VERSION)
LUA_LIB ?= -llua$(LUA_VERSION)
# The interpreter has the whole core inside, for C modules to find, and as lua5.4 has: its calls are direct and so faster.
LUA_WHOLE ?= -Wl,--whole-archive,-Bstatic $(LUA_LIB) -Wl,-Bdynamic,--no-whole-archive
LUA ?= lua$(LUA_VERSION)
SECONDS ?= 60
VERSION := $(shell sed -n 's/^.define MP_VERSION "\(.*\)"/\1/p' runtime/mp.h)

# ---- flags -------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
        -Wwrite-strings -Wvla -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror
CPPFLAGS_MP := -Iruntime -D_GNU_SOURCE
CFLAGS_MP = -std=gnu11 $(DEBUG_INFO) -fPIC -fvisibility=hidden -fno-strict-aliasing -pthread $(WARN)
LDFLAGS_MP := -pthread -Wl,--as-needed -Wl,-z,now
DEBUG_INFO := -g

ifeq ($(MODE),release)
CFLAGS_MODE := -O2 -fno-plt
else ifeq ($(MODE),debug)
CFLAGS_MODE := -O0 -DMP_DEBUG -DMP_FAULTS
else ifeq ($(MODE),hard)
# Tiny rings and tables, fault points, early futex returns: what is rare becomes common.
CFLAGS_MODE := -O1 -DMP_DEBUG -DMP_HARD -DMP_FAULTS
DEBUG_INFO := -g1
else ifeq ($(MODE),asan)
CFLAGS_MODE := -O1 -DMP_DEBUG -DMP_FAULTS -fno-omit-frame-pointer \
               -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS_MP += -fsanitize=address,undefined
DEBUG_INFO := -g1
else ifeq ($(MODE),tsan)
CFLAGS_MODE := -O1 -DMP_DEBUG -DMP_FAULTS -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS_MP += -fsanitize=thread
DEBUG_INFO := -g1
else ifeq ($(MODE),fuzz)
# Coverage-guided, which needs clang's libFuzzer.
CC := clang
CFLAGS_MODE := -O1 -DMP_DEBUG -DMP_FAULTS -DMP_LIBFUZZER -fno-omit-frame-pointer \
               -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
LDFLAGS_MP += -fsanitize=address,undefined
LDFLAGS_FUZZ := -fsanitize=fuzzer,address,undefined
else ifeq ($(MODE),afl)
# The same targets under AFL++, whose driver calls them in a process that lives on.
CC := afl-clang-fast
CFLAGS_MODE := -O1 -DMP_DEBUG -DMP_FAULTS -DMP_LIBFUZZER -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
LDFLAGS_MP += -fsanitize=address,undefined
LDFLAGS_FUZZ := -fsanitize=fuzzer
export AFL_QUIET := 1
else
$(error MODE is release, debug, hard, asan, tsan, fuzz or afl, not "$(MODE)")
endif

LIBS := -lseccomp -lssl -lcrypto -lm -ldl

COMPILE = $(CC) $(CPPFLAGS_MP) $(CPPFLAGS) $(CFLAGS_MP) $(CFLAGS_MODE) $(CFLAGS)
LINK = $(CC) $(CFLAGS_MODE) $(CFLAGS) $(LDFLAGS_MP) $(LDFLAGS)

# ---- what there is to build --------------------------------------------------------------

FLOORS_CORE := base shm wire sandbox proc pool net
src_of = $(sort $(filter-out %_test.c $(addprefix runtime/,$(SKIP)),$(wildcard runtime/$(1)/*.c)))
obj_of = $(patsubst runtime/%.c,$(BUILD)/obj/%.o,$(call src_of,$(1)))

CORE_OBJ := $(foreach f,$(FLOORS_CORE),$(call obj_of,$(f)))
HOST_OBJ := $(call obj_of,host)
BIND_OBJ := $(call obj_of,bind)
MAIN_OBJ := $(call obj_of,main)
TEST_OBJ := $(call obj_of,test)
LUA_FILES := $(sort $(wildcard lua/mp/*.lua))
EMBED_OBJ := $(BUILD)/obj/embed.o

TEST_SRC := $(filter-out $(addprefix runtime/,$(SKIP)),$(sort $(wildcard runtime/*/*_test.c)))
ifeq ($(MODE),hard)
# What the hard mode makes common is nothing to a jail, and its attacks take long.
TEST_SRC := $(filter-out %/jail_test.c,$(TEST_SRC))
endif
ifeq ($(MODE),tsan)
# Only what has threads: the rest would be slow and could not fail. In jail_test they are an attack.
TEST_SRC := $(if $(TEST_SRC),$(filter-out %/jail_test.c,$(shell grep -l -E 'pthread_create|proc/thread\.h' $(TEST_SRC))))
endif
TEST_BIN := $(patsubst runtime/%.c,$(BUILD)/test/%,$(TEST_SRC))

PROGRAMS := $(BUILD)/libmp.a $(BUILD)/libmp.so $(BUILD)/mp.pc
ifneq ($(BIND_OBJ),)
PROGRAMS += $(BUILD)/mp.so $(BUILD)/libmplua.a $(BUILD)/mplua.pc
endif
ifneq ($(filter %/mprun.o,$(MAIN_OBJ)),)
PROGRAMS += $(BUILD)/mprun
endif

.PHONY: all
all: $(PROGRAMS)

# Objects depend on these stamps, which change only when their text does: another compiler,
# other flags or a removed source rebuild what they must.
.PHONY: force
$(BUILD)/.flags: force
	@mkdir -p $(BUILD)
	@echo '$(COMPILE) $(LINK) $(LIBS) $(LUA_LIB)' | cmp -s - $@ || echo '$(COMPILE) $(LINK) $(LIBS) $(LUA_LIB)' > $@
$(BUILD)/.sources: force
	@mkdir -p $(BUILD)
	@echo '$(CORE_OBJ) $(HOST_OBJ) $(BIND_OBJ) $(MAIN_OBJ) $(TEST_OBJ) $(LUA_FILES)' | cmp -s - $@ || \
	 echo '$(CORE_OBJ) $(HOST_OBJ) $(BIND_OBJ) $(MAIN_OBJ) $(TEST_OBJ) $(LUA_FILES)' > $@
$(BUILD)/.headers: spec/support/deps.sh
	@mkdir -p $(BUILD)
	@sh spec/support/deps.sh headers "$(CC)" "$(LUA_INC)"
	@touch $@

$(BUILD)/obj/%.o: runtime/%.c $(BUILD)/.flags | $(BUILD)/.headers
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(COMPILE) $(CPPFLAGS_FLOOR) -MMD -MP -c -o $@ $<

$(BUILD)/obj/bind/%.o $(BUILD)/test/bind/%.o: CPPFLAGS_FLOOR = -isystem $(LUA_INC)
$(BUILD)/obj/main/%.o $(BUILD)/test/main/%.o: CPPFLAGS_FLOOR = -isystem $(LUA_INC)

# The Lua files, as they are and compiled, between two labels each; see runtime/bind/embed.h.
$(BUILD)/obj/compile: spec/support/compile.c $(BUILD)/.flags | $(BUILD)/.headers
	@mkdir -p $(@D)
	@$(CC) -std=gnu11 -O1 $(WARN) -isystem $(LUA_INC) -o $@ $< $(LUA_LIB)
$(BUILD)/obj/embed.c: spec/support/embed.sh $(BUILD)/obj/compile $(LUA_FILES) $(BUILD)/.sources
	@mkdir -p $(BUILD)/obj/lua
	@$(BUILD)/obj/compile $(BUILD)/obj/lua $(LUA_FILES)
	@sh spec/support/embed.sh $(BUILD)/obj/lua $(LUA_FILES) > $@.tmp && mv $@.tmp $@
$(BUILD)/obj/embed.o: $(BUILD)/obj/embed.c $(LUA_FILES) $(BUILD)/.flags | $(BUILD)/.headers
	@echo "  embed $(words $(LUA_FILES)) Lua files"
	@$(COMPILE) -c -o $@ $<

# ---- libraries and programs --------------------------------------------------------------

# Static libraries hold one object: what is hidden stays hidden from the host, and what is found through
# weak names is there.
define make_archive
@echo "  ar    $@"
@rm -f $@ && $(CC) -nostdlib -r -o $@.o $(filter %.o,$^)
@$(OBJCOPY) --localize-hidden $@.o && $(AR) rcs $@ $@.o && rm -f $@.o
endef
$(BUILD)/libmp.a: $(CORE_OBJ) $(HOST_OBJ) $(BUILD)/.sources
	$(make_archive)
$(BUILD)/libmplua.a: $(CORE_OBJ) $(HOST_OBJ) $(BIND_OBJ) $(EMBED_OBJ) $(BUILD)/.sources
	$(make_archive)
$(BUILD)/libmp.so: $(CORE_OBJ) $(HOST_OBJ) $(BUILD)/.sources
	@echo "  link  $@"
	@$(LINK) -shared -Wl,-soname,libmp.so.0 -Wl,-z,nodelete -o $@ $(filter %.o,$^) $(LIBS)
	@ln -sf libmp.so $(BUILD)/libmp.so.0
# Not linked to liblua: the program that loads the module has the one Lua core.
$(BUILD)/mp.so: $(CORE_OBJ) $(HOST_OBJ) $(BIND_OBJ) $(EMBED_OBJ) $(BUILD)/.sources
	@echo "  link  $@"
	@$(LINK) -shared -Wl,-z,nodelete -o $@ $(filter %.o,$^) $(LIBS)
$(BUILD)/mprun: $(CORE_OBJ) $(HOST_OBJ) $(BIND_OBJ) $(EMBED_OBJ) $(MAIN_OBJ) $(BUILD)/.sources
	@echo "  link  $@"
	@$(LINK) -Wl,-E -o $@ $(LUA_WHOLE) $(filter %.o,$^) $(LIBS)

$(BUILD)/%.pc: spec/support/%.pc.in $(BUILD)/.flags
	@sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

# ---- C tests -----------------------------------------------------------------------------

# A test sees hidden names: it is linked with the objects of its floor and of those below, and
# so also proves that the floor needs nothing from above.
$(BUILD)/test/%.o: runtime/%.c $(BUILD)/.flags | $(BUILD)/.headers
	@mkdir -p $(@D)
	@echo "  cc    $<"
	@$(COMPILE) $(CPPFLAGS_FLOOR) -MMD -MP -c -o $@ $<

up_to_base := base
up_to_shm := base shm
up_to_wire := base wire
up_to_sandbox := base shm wire sandbox
up_to_proc := $(up_to_sandbox) proc
up_to_pool := $(up_to_proc) pool
up_to_net := $(up_to_proc) net
up_to_bind := $(up_to_pool) net bind
up_to_host := $(up_to_pool) net host
up_to_main := $(up_to_pool) net bind host main
up_to_test := base
# A program of its own with main() cannot be linked into a test.
MAIN_TEST_OBJ := $(filter-out $(BUILD)/obj/main/mprun.o,$(MAIN_OBJ))

define test_rule
with_$(1) := $$(TEST_OBJ) $$(foreach f,$$(filter-out main,$$(up_to_$(1))),$$(call obj_of,$$(f))) \
  $$(if $$(filter bind,$$(up_to_$(1))),$$(EMBED_OBJ)) $$(if $$(filter main,$$(up_to_$(1))),$$(MAIN_TEST_OBJ))
$$(filter $$(BUILD)/test/$(1)/%,$$(TEST_BIN)): %: %.o $$(with_$(1)) $$(BUILD)/.sources
	@echo "  link  $$@"
	@$$(LINK) -rdynamic -o $$@ $$< $$(with_$(1)) $$(if $$(filter bind,$$(up_to_$(1))),$$(LUA_LIB)) $$(LIBS)
endef
$(foreach f,$(sort $(patsubst runtime/%/,%,$(dir $(TEST_SRC)))),$(eval $(call test_rule,$(f))))
# A host's processes are made by the helper, which those tests look for in this folder (runtime/host/helper_path.h). Not under the thread sanitizer.
ifneq ($(MODE),tsan)
$(filter $(BUILD)/test/host/%,$(TEST_BIN)): | $(BUILD)/mprun
endif

# ---- fuzz targets and stress programs ----------------------------------------------------
#
# runtime/fuzz/<name>_fuzz.c has LLVMFuzzerTestOneInput; runtime/fuzz/driver.c runs it on corpus and mutations where
# there is no libFuzzer. spec/stress/<name>.c becomes a program; spec/stress/<name>.lua is run by mprun.
FUZZ_SRC := $(sort $(wildcard runtime/fuzz/*_fuzz.c))
FUZZ_BIN := $(patsubst runtime/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))
FUZZ_OBJ := $(filter-out %_fuzz.o,$(call obj_of,fuzz))
$(BUILD)/obj/fuzz/%.o: CPPFLAGS_FLOOR = -isystem $(LUA_INC)
$(BUILD)/fuzz/%_fuzz: $(BUILD)/obj/fuzz/%_fuzz.o $(FUZZ_OBJ) $(CORE_OBJ) $(BIND_OBJ) $(EMBED_OBJ) $(BUILD)/.sources
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(LINK) $(LDFLAGS_FUZZ) -o $@ $(filter %.o,$^) $(LUA_LIB) $(LIBS)
STRESS_SRC := $(sort $(wildcard spec/stress/*.c))
STRESS_BIN := $(patsubst spec/stress/%.c,$(BUILD)/stress/%,$(STRESS_SRC))
$(BUILD)/stress/%: spec/stress/%.c $(CORE_OBJ) $(HOST_OBJ) $(BUILD)/.flags $(BUILD)/.sources
	@mkdir -p $(@D)
	@echo "  link  $@"
	@$(COMPILE) $(LDFLAGS_MP) -MMD -MP -o $@ $(filter %.c %.o,$^) $(LIBS)

# Runs a program of the tests, ends it in time, and says what it left behind. Never sanitized.
$(BUILD)/watch: spec/support/watch.c $(BUILD)/.flags
	@$(CC) -std=gnu11 -D_GNU_SOURCE -O1 $(WARN) -o $@ $<

.PHONY: ctests ctest programs test-objects
# Compiles the tests and links none: enough to see a compiler's warnings.
test-objects: $(TEST_BIN:=.o)
programs: $(FUZZ_BIN) $(STRESS_BIN) $(BUILD)/watch
# With libFuzzer where clang has it, else by the driver under the address sanitizer.
fuzz:
	@if printf 'int LLVMFuzzerTestOneInput(const char*d,long n){return d==0&&n<0;}' | \
	  clang -fsanitize=fuzzer -x c - -o /dev/null 2>/dev/null; then m=fuzz; else m=asan; fi; \
	$(MAKE) --no-print-directory MODE=$$m BUILD=build/$$m programs && \
	SECONDS=$(SECONDS) sh spec/support/programs.sh $$([ $$m = fuzz ] && echo libfuzzer || echo fuzz) build/$$m
# By AFL++ (package afl++), TARGET=decode or wire only one.
.PHONY: afl coverage
afl:
	@command -v afl-clang-fast >/dev/null || { echo "afl++ is missing: apt-get install afl++"; exit 1; }
	@$(MAKE) --no-print-directory MODE=afl BUILD=build/afl programs && \
	SECONDS=$(SECONDS) TARGET=$(TARGET) sh spec/support/programs.sh afl build/afl
# What of the decoder the corpus reaches, with what make fuzz and make afl have found beside it.
coverage:
	@$(MAKE) --no-print-directory MODE=debug BUILD=build/coverage CC=gcc CFLAGS=--coverage $(patsubst %,build/coverage/fuzz/%_fuzz,decode wire)
	@sh spec/support/coverage.sh build/coverage
ctests: $(BUILD)/test/list $(TEST_BIN)
$(BUILD)/test/list: force
	@mkdir -p $(@D)
	@printf '%s\n' $(TEST_BIN) > $@
ctest: ctests
	@sh spec/support/ctests.sh $(BUILD) $(WORDS)

# ---- tests of everything -----------------------------------------------------------------

export MPRUN := $(CURDIR)/$(BUILD)/mprun

.PHONY: deps run test specs check lint layers tidy bench bench-curves bench-plot stress fuzz
deps:
	@sh spec/support/deps.sh install

run:
	@sh spec/support/deps.sh install run
	@$(MAKE) --no-print-directory all
	@sh spec/support/tour.sh $(BUILD)/mprun

# Every suite, all modes; the last line adds them up. SUITES="specs lint" runs only those.
test: deps
	@sh spec/support/run.sh $(SUITES)

# The specs against this MODE's build, by stock lua5.4 in release and by mprun under the sanitizers.
specs: all $(BUILD)/watch
	@sh spec/support/specs.sh $(MODE) $(BUILD) $(SPEC)

bench: all
	@sh spec/support/programs.sh bench $(BUILD)
bench-curves: all
	@"$(MPRUN)" spec/bench/curves.lua
# Draws what the last whole bench and the last curves found.
bench-plot:
	@$(LUA) spec/bench/plot.lua $(BUILD) docs
stress: all programs
	@SECONDS=$(SECONDS) sh spec/support/programs.sh stress $(BUILD)

# ---- lint --------------------------------------------------------------------------------

C_FILES := $(sort $(wildcard runtime/*/*.c))

lint: layers
	@DEEP=$(DEEP) sh spec/support/lint.sh "$(LUA_INC)" $(C_FILES)

layers:
	@awk -f spec/support/layers.awk $(sort $(wildcard runtime/*.h runtime/*/*.c runtime/*/*.h))

# ---- installation ------------------------------------------------------------------------

.PHONY: install uninstall
INSTALLED = $(PREFIX)/bin/mprun $(PREFIX)/lib/libmp.a $(PREFIX)/lib/libmp.so.0 $(PREFIX)/lib/libmp.so $(PREFIX)/lib/libmplua.a \
  $(PREFIX)/lib/lua/$(LUA_VERSION)/mp.so $(PREFIX)/lib/pkgconfig/mp.pc $(PREFIX)/lib/pkgconfig/mplua.pc \
  $(PREFIX)/include/mp.h $(PREFIX)/include/mplua.h
install: all
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin lib lib/lua/$(LUA_VERSION) lib/pkgconfig include)
	install -m 755 $(BUILD)/mprun $(DESTDIR)$(PREFIX)/bin/mprun
	install -m 644 $(BUILD)/libmp.a $(BUILD)/libmplua.a $(DESTDIR)$(PREFIX)/lib
	install -m 644 $(BUILD)/libmp.so $(DESTDIR)$(PREFIX)/lib/libmp.so.0
	ln -sf libmp.so.0 $(DESTDIR)$(PREFIX)/lib/libmp.so
	install -m 644 $(BUILD)/mp.so $(DESTDIR)$(PREFIX)/lib/lua/$(LUA_VERSION)/mp.so
	for p in mp mplua; do sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' spec/support/$$p.pc.in \
	  > $(DESTDIR)$(PREFIX)/lib/pkgconfig/$$p.pc; done
	install -m 644 runtime/mp.h runtime/mplua.h $(DESTDIR)$(PREFIX)/include
uninstall:
	rm -f $(addprefix $(DESTDIR),$(INSTALLED))

.PHONY: help
help:
	@sed -n 's/^#? \{0,1\}//p' Makefile

#? make                  build into build/: mprun, mp.so, libmp.a, libmp.so, libmplua.a, pkg-config files
#? make deps             install the missing packages (apt-get, as root or through sudo); quiet if none is
#? make run              install what running needs, build, and a tour of scripts/
#? make test             deps, build, every test in every mode; the last line is the count
#?   SUITES="lint c-asan"  only these (names: spec/support/run.sh)
#? make ctest            the C tests of this mode       WORDS="..." only cases with such names
#? make specs            the Lua specs of this mode     SPEC="spec/queue_spec.lua" only these
#? make lint             layers, compiler warnings, clang-tidy, cppcheck, luacheck
#?   DEEP=1              with the path-sensitive analyzer, which takes minutes
#? make layers           includes point down only
#? make bench            the table of speeds (ROW=lock,queue_int only these; RUNS=3)
#? make bench-curves     how they change with size, users, backlog, processes (CURVE=size only that)
#? make bench-plot       draws both: docs/bench.svg, docs/curves.svg
#? make stress SECONDS=60   the stress programs
#? make fuzz SECONDS=60  the fuzz targets of runtime/fuzz, by libFuzzer        make afl SECONDS=60 [TARGET=decode]   by AFL++
#? make coverage         what the fuzz targets' corpus reaches of the decoder
#? make install PREFIX=/usr/local [DESTDIR=]           make uninstall
#? make clean            remove build/
#? MODE=release|debug|hard|asan|tsan    each in a folder of its own; CC=clang works too
#? BUILD=folder          another folder to build into
#? SKIP="shm/dict.c"     leave out sources that do not build yet

-include $(wildcard $(BUILD)/obj/*/*.d $(BUILD)/test/*/*.d $(BUILD)/stress/*.d)
.SECONDARY:
.DELETE_ON_ERROR:

.PHONY: clean
clean:
	rm -rf build
