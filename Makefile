# `make` lists the targets. Each sets up what it needs; nothing but Python >= 3.11 and make is expected.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The interpreter .venv is made with: PYTHON=/path/to/python, else the first of these that is new enough.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3 python3.13 python3.12 python3.11)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# Private addresses of a registry, or of a mirror, never get into a lock file.
COMPILE := CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	--build-deps-for editable $(if $(UPGRADE),--upgrade)

# Where `make test` has its files: in memory if there are 4 GB of it for that, since most of these tests
# wait for the disk at each commit and are about something else. `make survival` and `make e2e` are on disk.
QUICK_DISK = $(shell [ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -ge 4000000 ] 2>/dev/null \
	&& echo /dev/shm || echo "$${TMPDIR:-/tmp}")

.PHONY: help install demo test e2e faults survival lies campaign lint types layers docs check lock bench clean

help:  ## List the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf 'make %-8s %s\n' "$$name" "$$text"; done

install: $(VENV)/.installed  ## Make .venv with everything in it (does nothing when it is up to date)

demo: install  ## Run the whole path on an embedded stack; MEMOS=env FILES="…" runs your files against MEMOS_BASE_URL
	@$(BIN)/expunge demo $(if $(MEMOS),--memos $(MEMOS)) $(FILES)

test: install  ## Run the tests; needs no service, brings its own valkey and PostgreSQL
	TMPDIR=$(QUICK_DISK) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests/unit tests/contract tests/integration

e2e: install  ## Run whole stacks as people do: dev, demo, a worker with its health port, the search for names
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/e2e

faults: install  ## Show every fault of the catalogue, one test after the other, with a table
	$(BIN)/python -m pytest -p no:xdist -m fault --fault-table build/faults.json tests

survival: install  ## Kill, starve and lie to real workers; the part of the faults that is done in 90 s
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests/faults

lies: install  ## Let MemOS lie in sixty ways, and print what was made of it
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/contract -k lies

campaign: install  ## Random days, SEEDS=200 of them, and REAL=10 with real processes; SEED=17 replays one
	$(BIN)/python -m tests.support.campaign $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),200) --real $(or $(REAL),10))

lint: install  ## Check style (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## Check types (mypy, strict)
	$(BIN)/mypy

layers: install  ## Check which package imports which (import-linter)
	$(BIN)/lint-imports

docs: install  ## Check that the documents say what is so
	$(BIN)/python -m pytest tests/docs

check: lint types layers test e2e survival docs  ## Everything that CI runs

lock: install  ## Write requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes the newest versions
	$(COMPILE) --extra embedded --extra postgres --extra otel --output-file requirements/run.txt pyproject.toml
	$(COMPILE) --extra embedded --extra postgres --extra otel --extra parquet --extra dev --constraint requirements/run.txt --output-file requirements/dev.txt pyproject.toml

bench: install  ## Measure every figure of docs/performance.md (10 minutes); BENCH=full goes up to ten million ids
	@BENCH=$(BENCH) $(BIN)/python -m bench
	$(if $(filter full,$(BENCH)),$(BIN)/python bench/audit.py && $(BIN)/python bench/proof.py)

clean:  ## Remove .venv and everything that tools left behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two stamps: another lock makes the environment anew, so that nothing stays in it that the lock does
# not name; another pyproject.toml only installs the project again.
$(VENV)/.locked: requirements/dev.txt
	@python=; for each in $(PYTHONS); do \
	  if "$$each" -c '$(NEW_ENOUGH)' 2>/dev/null; then python=$$each; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "Expunge needs Python 3.11 or newer; none of these is: $(PYTHONS)." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python install" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python cannot make virtual environments: its venv module is missing." >&2; \
	  echo "Install it (Debian, Ubuntu: apt install python3-venv) and run make again." >&2; exit 1; fi; \
	echo "Installing into $(VENV); this takes a minute the first time." >&2; \
	"$$python" -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
