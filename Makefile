# Meson does the work; these are its short names.  `make help` lists them.
BUILD ?= build
PYTHON ?= /usr/bin/python3

.PHONY: all setup run serve test crash-test chaos-test failpoint-test clock-test restart-test faults powercut powercut-fs sim \
	model-test beside-test postgres-test copy-test planted-test race-test review-test stream-test slow-test overload-test campaign cel-conformance bench bench-pg asan asan-build tsan valgrind \
	analyze fuzz fuzz-smoke fuzz-build lint openapi-lint format install clean help

all: setup ## build; leaves build/baton
	@ninja -C $(BUILD) --quiet

setup:
	@tools/setup
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

run: all ## build, then run examples/repo-audit.yaml on this checkout
	@$(BUILD)/baton run examples/repo-audit.yaml --input repo=$(CURDIR) --data $(BUILD)/run-data

serve: all ## run the server on 127.0.0.1:7420
	$(BUILD)/baton serve

test: all ## every test but those with targets of their own, or SUITES="units tests/api"; ends with "N passed, N failed"
	@PYTHON=$(PYTHON) tests/run $(BUILD) $(SUITES)

crash-test: all ## kill -9 at random times under load, then check; CYCLES=100
	$(PYTHON) tests/crash/run.py --baton $(BUILD)/baton --cycles $(or $(CYCLES),100) $(if $(SEED),--seed $(SEED))

chaos-test: all ## two servers on a PostgreSQL, any of the three stopped at any time; CYCLES=100 PG_STOPS=30
	$(PYTHON) tests/crash/chaos.py --baton $(BUILD)/baton --cycles $(or $(CYCLES),100) \
		--database-stops $(or $(PG_STOPS),30) $(if $(SEED),--seed $(SEED))

failpoint-test: setup ## die, fail and stall on every hand-over of every operation; FEW=1 for each once
	@test -f build-failpoints/build.ninja || meson setup build-failpoints -Dfailpoints=true >/dev/null
	@ninja -C build-failpoints --quiet src/server/baton
	$(PYTHON) tests/failpoints/run.py --baton build-failpoints/src/server/baton $(if $(FEW),--few) $(if $(SEED),--seed $(SEED))

clock-test: all ## leases under jumping clocks, stopped processes, slow disks
	@PYTHON=$(PYTHON) tests/run $(BUILD) tests/clock

restart-test: all ## kill -9 with many queued runs and a long log; RUNS=1000000 SECONDS=1
	$(PYTHON) tests/restart/run.py --baton $(BUILD)/baton --runs $(or $(RUNS),1000000) --seconds $(or $(SECONDS),1)

campaign: all ## the long suites in turn for MINUTES=60; appends to reliability/ledger.jsonl
	$(PYTHON) reliability/campaign.py --minutes $(or $(MINUTES),60) $(if $(ONLY),--only $(ONLY))

postgres-test: all ## the store's and the API's tests on a PostgreSQL of their own; FILES="tests/api/test_tasks.py"
	BATON=$(abspath $(BUILD)/baton) $(PYTHON) -m pytest -q -n 2 tests/postgres
	STORE=postgres BATON=$(abspath $(BUILD)/baton) $(PYTHON) -m pytest -q -n 2 $(or $(FILES),tests/api)

copy-test: all ## a database of TASKS=100000 tasks and ten times the events, copied to PostgreSQL and back: equal digests
	$(PYTHON) tests/postgres/copies.py --baton $(BUILD)/baton --tasks $(or $(TASKS),100000)

faults: all ## every I/O call of the database fails, with every error, once and for ever (minutes)
	$(BUILD)/tests/faults/test_faults all

powercut: all ## images of what a power cut may leave; N=2000 SEED=1
	$(BUILD)/tests/faults/test_powercut $(or $(N),2000) $(or $(SEED),1)

powercut-fs: all ## cut a real ext4 off under the server (root); CUTS=20 SEED=…
	BATON=$(BUILD)/baton unshare -m $(PYTHON) tests/faults/powercut_fs.py --cuts $(or $(CUTS),20) $(if $(SEED),--seed $(SEED))

sim: all ## the domain, planner and writer in a simulated world; SEEDS=1..200 OPS=5000
	@$(BUILD)/tests/sim/sim --seeds $(or $(SEEDS),$(if $(SEED),$(SEED),1..200)) --ops $(or $(OPS),5000)

model-test: all ## random operations, asked of a real server and of a model of the domain; N=5000 SEED=…
	@$(PYTHON) tests/model/run.py --baton $(BUILD)/baton --sequences $(or $(N),5000) $(if $(SEED),--seed $(SEED))

beside-test: all ## random operations, asked of a server on a file and of one on PostgreSQL: the same answers; N=2000 SEED=…
	@$(PYTHON) tests/model/run.py --baton $(BUILD)/baton --beside --sequences $(or $(N),2000) $(if $(SEED),--seed $(SEED))

planted-test: setup ## bugs of one line, planted on purpose: every one must be found; ONLY=word
	$(PYTHON) tests/planted/run.py $(if $(ONLY),--only "$(ONLY)")

race-test: all ## requests at the same time for what only one can get; N=10000 SEED=… ONLY=word
	$(PYTHON) tests/race/races.py --baton $(BUILD)/baton --races $(or $(N),10000) $(if $(SEED),--seed $(SEED)) \
		$(if $(ONLY),--only "$(ONLY)")

review-test: all ## two reviewers race for a verdict; RACES=10000
	RACES=$(or $(RACES),10000) PYTHON=$(PYTHON) tests/run $(BUILD) tests/api/test_reviews.py

stream-test: all ## event streams at scale; SUBSCRIBERS=5000 DISCONNECTS=10000
	$(PYTHON) tests/scale/streams.py --baton $(BUILD)/baton --subscribers $(or $(SUBSCRIBERS),5000) \
		--disconnects $(or $(DISCONNECTS),10000)

slow-test: all ## slow heads, bodies and readers beside healthy clients; MINUTES=5 CONNECTIONS=2000
	$(PYTHON) tests/scale/slow.py --baton $(BUILD)/baton --minutes $(or $(MINUTES),5) \
		--connections $(or $(CONNECTIONS),2000)

overload-test: all ## three times as much as the server can do; SECONDS=30
	$(PYTHON) tests/scale/overload.py --baton $(BUILD)/baton --seconds $(or $(SECONDS),30)

cel-conformance: all ## the public CEL cases; CASES=DIR holds their *.textproto
	@test -n "$(CASES)" || { echo "usage: make cel-conformance CASES=DIR" >&2; exit 2; }
	@$(BUILD)/tests/cel/conformance $(CASES)

bench: all ## measure; writes build/bench.json
	$(PYTHON) bench/run.py --baton $(BUILD)/baton --out $(BUILD)/bench.json

bench-pg: all ## measure on PostgreSQL, beside its peers from npm (needs Node); writes build/bench-pg.json
	$(PYTHON) bench/postgres.py --baton $(BUILD)/baton --out $(BUILD)/bench-pg.json

SANITIZERS = ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=64 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

asan-build: setup
	@test -f build-asan/build.ninja || meson setup build-asan -Doptimization=1 -Db_sanitize=address,undefined >/dev/null
	@ninja -C build-asan --quiet

asan: asan-build ## the tests under AddressSanitizer, LeakSanitizer and UBSan; SUITES="units tests/api"
	@$(SANITIZERS) PYTHON=$(PYTHON) tests/run build-asan $(SUITES)

tsan: setup ## the tests under ThreadSanitizer, then crashes; CYCLES=5 SUITES="units tests/api"
	@test -f build-tsan/build.ninja || meson setup build-tsan -Db_sanitize=thread >/dev/null
	@ninja -C build-tsan --quiet
	@$(SANITIZERS) PYTHON=$(PYTHON) tests/run build-tsan $(SUITES)
	@$(SANITIZERS) $(PYTHON) tests/crash/run.py --baton build-tsan/baton --cycles $(or $(CYCLES),5)

valgrind: all ## the tests in C under valgrind
	@VALGRIND=1 PYTHON=$(PYTHON) tests/run $(BUILD)

analyze: setup ## gcc -fanalyzer over the program
	@test -f build-analyze/build.ninja || meson setup build-analyze -Danalyze=true >/dev/null
	@ninja -C build-analyze --quiet src/server/baton

FUZZ_TARGETS = $(sort $(filter-out entry replay server,$(basename $(notdir $(wildcard fuzz/*.c)))))

fuzz-build:
	@tools/setup analysis
	@test -f build-fuzz/build.ninja || CC=clang meson setup build-fuzz -Dfuzz=true \
		-Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@ninja -C build-fuzz --quiet

fuzz: fuzz-build ## look for inputs that break TARGET for SECONDS; found ones become tests
	@test -n "$(TARGET)" || { echo "usage: make fuzz TARGET=NAME SECONDS=60; there are: $(FUZZ_TARGETS)" >&2; exit 2; }
	@fuzz/run build-fuzz $(or $(SECONDS),60) $(TARGET)

fuzz-smoke: fuzz-build ## every target for SECONDS=60
	@fuzz/run build-fuzz $(or $(SECONDS),60) $(FUZZ_TARGETS)

# unknownMacro: the foreach of jansson.  varFuncNullUB: glibc's NULL is a pointer.  CastIntegerToAddressAtReturn: it takes `struct template *` for a template of C++.  funcArgOrderDifferent: a header calls an id by what it names, the definition calls it id.
lint: all openapi-lint ## cppcheck, clang-tidy, Redocly over the API's description (needs Node)
	@tools/setup analysis
	cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 -Isrc \
		--suppress=missingIncludeSystem --suppress=funcArgOrderDifferent \
		--suppress=unknownMacro --suppress=varFuncNullUB --suppress=CastIntegerToAddressAtReturn \
		-D_GNU_SOURCE src
	git ls-files 'src/*.c' | xargs -P 2 -n 8 clang-tidy -p $(BUILD) --quiet 2>&1 | { ! grep -E "(warning|error):"; }

openapi-lint: all
	@tools/openapi/lint $(BUILD)/baton

format: ## lay the sources out as .clang-format says
	clang-format -i $$(git ls-files 'src/*.[ch]' 'tests/*.[ch]' 'fuzz/*.[ch]' 'bench/*.[ch]')

install: all ## into /usr/local
	meson install -C $(BUILD)

clean:
	rm -rf build build-asan build-tsan build-failpoints build-analyze build-fuzz

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22
