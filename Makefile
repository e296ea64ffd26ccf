# Two commands to start with: `make demo` and `make test`. Both set up everything they need in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TARGETS := .venv-targets

.PHONY: demo test test-all test-targets test-browser lint bench models clean

demo: $(VENV)/.extract
	$(BIN)/mmfeat demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

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
	$(BIN)/lint-imports

bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m bench

# Trains the tiny models in tests/models again (CPU, minutes).
models: $(VENV)/.dev
	$(BIN)/python tests/models/train.py

clean:
	rm -rf $(VENV) $(TARGETS) demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mmfeat needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.extract: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[extract,offline]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.extract
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[extract,offline,quantize,report,dev]"
	@touch $@

$(VENV)/.browser: pyproject.toml constraints.txt $(VENV)/.dev
	@command -v chromium >/dev/null || { echo "No chromium on this machine: apt-get install chromium"; exit 2; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	@touch $@

# They need other versions of a few packages; torch and the rest are those of $(VENV), found after their own.
SITE_PACKAGES := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(TARGETS)/.ready: tests/targets/requirements.txt | $(VENV)/.dev
	$(BIN)/python -m venv --clear $(TARGETS)
	$(TARGETS)/bin/python -m pip install --quiet --no-deps --requirement $<
	$(BIN)/python $(SITE_PACKAGES) > "$$($(TARGETS)/bin/python $(SITE_PACKAGES))/shared.pth"
	@touch $@
