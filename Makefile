# One virtual environment, installed under constraints.txt, filled as targets need it.
# Make variables: PYTHON (python3), VENV (.venv), ARGS (passed on to the command).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
# As many workers as cores, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt --editable
SOURCES := rere_env agents tests examples benchmarks

.DEFAULT_GOAL := help
.PHONY: help train test test-slow test-gpu mutants chaos check lint types format figures bench smoke clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | \
		awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

# A stamp is remade only when the project's metadata or the pinned versions change.
$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-llm: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) ".[llm]"
	@touch $@

$(VENV)/.installed-all: pyproject.toml constraints.txt | $(VENV)/.created
	$(INSTALL) ".[all]"
	@touch $@ $(VENV)/.installed-llm

train: $(VENV)/.installed-llm  ## install, then train on the built-in world (ARGS="--preset smoke")
	$(BIN)/rere train $(ARGS)

test: $(VENV)/.installed-all  ## install everything, then run all tests but slow and gpu ones
	$(PYTEST) -m "not slow and not gpu" $(ARGS)

# Exit code 5 is "no test selected": not a failure where a marker has no test yet.
test-slow: $(VENV)/.installed-all  ## run the slow tests
	$(PYTEST) -m "slow and not gpu" $(ARGS) || [ $$? -eq 5 ]

test-gpu: $(VENV)/.installed-all  ## run the tests that need a CUDA device
	$(BIN)/pytest -m gpu $(ARGS) || [ $$? -eq 5 ]

mutants: $(VENV)/.installed-all  ## break the code in known ways: each must turn a test red
	$(BIN)/python -m tests.mutants.replay $(ARGS)

# Forks processes, of which each computes by one thread.
chaos: $(VENV)/.installed-all  ## kill, damage and starve short runs (ARGS="--kills 100")
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos $(ARGS)

check: lint types test  ## formatting, lint, types and tests: what must pass before a commit

lint: $(VENV)/.installed-all  ## check formatting and lint
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(VENV)/.installed-all  ## check types, strictly
	$(BIN)/mypy

format: $(VENV)/.installed-all  ## format, and repair what ruff can
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

figures: $(VENV)/.installed-all  ## make the figures in README and docs anew, from benchmarks/results
	$(BIN)/python benchmarks/figures.py

bench: $(VENV)/.installed-all  ## time the benchmarks
	$(BIN)/pytest benchmarks -o python_files='bench_*.py' --benchmark-only $(ARGS)

smoke: $(VENV)/.installed-all  ## run every example, benchmark and the training command in small
	set -e; for example in examples/*.py; do \
		echo "== $$example"; $(BIN)/python "$$example" --smoke; done
	$(BIN)/pytest benchmarks -o python_files='bench_*.py' --benchmark-disable
	runs=$$(mktemp -d) && $(BIN)/rere train --preset smoke --runs-dir "$$runs" && rm -r "$$runs"

clean:  ## remove caches and build outputs (keeps .venv and runs)
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
