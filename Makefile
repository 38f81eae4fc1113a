# Meson does the work; these are its short names.  `make help` lists them.
BUILD ?= build
PYTHON ?= /usr/bin/python3

.PHONY: all setup run serve test crash-test stream-test slow-test overload-test cel-conformance bench asan tsan lint format install clean help

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

test: all ## every test; ends with "N passed, N failed"
	@PYTHON=$(PYTHON) tests/run $(BUILD)

crash-test: all ## kill -9 at random times under load, then check; CYCLES=100
	$(PYTHON) tests/crash/run.py --baton $(BUILD)/baton --cycles $(or $(CYCLES),100)

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

asan: setup ## the tests under AddressSanitizer and UBSan
	@test -f build-asan/build.ninja || meson setup build-asan -Db_sanitize=address,undefined >/dev/null
	@ninja -C build-asan --quiet
	@PYTHON=$(PYTHON) tests/run build-asan

tsan: setup ## the tests under ThreadSanitizer
	@test -f build-tsan/build.ninja || meson setup build-tsan -Db_sanitize=thread >/dev/null
	@ninja -C build-tsan --quiet
	@PYTHON=$(PYTHON) tests/run build-tsan

# unknownMacro: the foreach of jansson.  varFuncNullUB: glibc's NULL is a pointer.  CastIntegerToAddressAtReturn: it takes `struct template *` for a template of C++.  funcArgOrderDifferent: a header calls an id by what it names, the definition calls it id.
lint: all ## cppcheck, clang-tidy
	cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 -Isrc \
		--suppress=missingIncludeSystem --suppress=funcArgOrderDifferent \
		--suppress=unknownMacro --suppress=varFuncNullUB --suppress=CastIntegerToAddressAtReturn \
		-D_GNU_SOURCE src
	git ls-files 'src/*.c' | xargs -P 2 -n 8 clang-tidy -p $(BUILD) --quiet 2>&1 | { ! grep -E "(warning|error):"; }

format: ## lay the sources out as .clang-format says
	clang-format -i $$(git ls-files 'src/*.[ch]' 'tests/*.[ch]')

install: all ## into /usr/local
	meson install -C $(BUILD)

clean:
	rm -rf build build-asan build-tsan

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22
