# Each target sets up all it needs on a machine with only Python 3.11 or newer and make.
#
#   PYTHON=python3.12   the interpreter that makes .venv
#   FAST=1              make test: leave out the tests marked slow
#   TESTS=tests/net     make test: only these
#   ONLY=name           make bench: one benchmark; make scenarios screenshots: one scenario; make proof: which one
#   SEED=n              make scenarios, make fuzz: another seed
#   SECONDS=60          make fuzz: for how long
#   BENCH_JSON=path     make bench: also write the figures there as JSON

PYTHON ?= python3
WORKERS ?= 2
TESTS ?=

BIN := .venv/bin
RUNTIME := .venv/.runtime-ready
DEV := .venv/.dev-ready
ISOLATED := $(BIN)/python tools/isolate.py

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz bench scenarios lab nat-matrix swarm-lab proof texts lint format pin clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1	/'

$(RUNTIME): pyproject.toml constraints.txt tools/environment.py
	$(PYTHON) tools/environment.py --fresh
	@touch $@

$(DEV): $(RUNTIME)
	$(PYTHON) tools/environment.py --extra dev
	@touch $@

demo: $(RUNTIME)  ## two nodes on this machine share real files; both trees are compared
	$(ISOLATED) $(BIN)/coterie demo $(ARGS)

test: $(DEV)  ## all tests, in a network namespace of their own (FAST=1, TESTS=path)
	$(ISOLATED) $(BIN)/python -m pytest -n $(WORKERS) $(if $(FAST),-m "not slow") $(TESTS) || \
	  { echo "== once more, alone: what failed beside other tests"; \
	    $(ISOLATED) $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(TESTS); }

fuzz: $(DEV)  ## every decoder with mutated samples (SECONDS=60, SEED=n)
	$(ISOLATED) $(BIN)/python -m tests.fuzz $(or $(SECONDS),60) $(SEED)

bench: $(RUNTIME)  ## figures beside their raw limits (ONLY=name, BENCH_JSON=path)
	ONLY="$(ONLY)" BENCH_JSON="$(BENCH_JSON)" $(ISOLATED) $(BIN)/python bench/run.py

screenshots: $(DEV)  ## pictures of every view of the page, at three widths and in both themes (ONLY=view)
	$(ISOLATED) $(BIN)/python -m tests.web.screenshots $(ONLY)

scenarios: $(DEV)  ## protocols at full size in the simulator; writes docs/scenarios (ONLY=name, SEED=n)
	$(ISOLATED) $(BIN)/python -m tests.scenarios $(ONLY) $(if $(SEED),--seed $(SEED))

lab: $(DEV)  ## a network laboratory by hand, as root (LAB="shell symmetric easy", LAB="scenario relay-dies")
	$(ISOLATED) $(BIN)/python -m tests.lab $(or $(LAB),shell)

nat-matrix: $(DEV)  ## every kind of home router with every kind; writes docs/nat-matrix.md
	$(ISOLATED) $(BIN)/python -m tests.lab matrix

swarm-lab: $(DEV)  ## a swarm over shaped links, beside libtorrent; writes docs/swarm-lab.md (SWARM="--case lossy --repeat 3")
	$(ISOLATED) $(BIN)/python -m tests.lab swarm $(SWARM)

proof: $(DEV)  ## what is too long for the tests, at full size; writes to docs/ (ONLY=mail)
	$(ISOLATED) $(BIN)/python tools/proof.py $(ONLY)

texts: $(DEV)  ## bring the translations up to date with the texts in the code
	$(BIN)/python tools/texts.py

lint: $(DEV)  ## ruff, strict types, the direction of imports, decoders, licences
	$(BIN)/ruff check src tests tools $(wildcard bench)
	$(BIN)/ruff format --check src tests tools $(wildcard bench)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.test_decoders
	$(BIN)/python tools/licences.py

format: $(DEV)  ## put the sources into the form that lint wants
	$(BIN)/ruff check --fix src tests tools $(wildcard bench)
	$(BIN)/ruff format src tests tools $(wildcard bench)

pin:  ## resolve the dependencies anew and write constraints.txt
	$(PYTHON) tools/pin.py

clean:  ## remove everything that these targets made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find . -name '*.egg-info' -type d -prune -exec rm -rf {} +
