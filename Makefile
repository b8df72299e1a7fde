# The one door: `make help`.  Needs python3 (3.11 or later) with its venv module; uses uv where it is installed.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
SECONDS ?= 20

.DEFAULT_GOAL := help
.PHONY: help install prove test check types lint layers layout format fuzz examples build ci clean

help: ## List the targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed-dev ## Install nonroot with everything the tests need into .venv

prove: $(VENV)/installed ## Prove the theorems for the specification in spec/
	$(BIN)/nonroot prove -j $(JOBS)

test: $(VENV)/installed-dev ## Run the tests
	$(BIN)/pytest -q -n $(JOBS)

check: types lint layers layout ## Types, linter, layers, layout (make -k check goes on after a failure)

types: $(VENV)/installed-dev
	$(BIN)/mypy

lint: $(VENV)/installed-dev
	$(BIN)/ruff check

layers: $(VENV)/installed-dev
	$(BIN)/lint-imports

layout: $(VENV)/installed-dev
	$(BIN)/ruff format --check
	$(BIN)/nonroot check
	$(BIN)/nonroot fmt --check

format: $(VENV)/installed-dev ## Lay out the Python and the specification files
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nonroot fmt

fuzz: $(VENV)/installed ## Compare the fast model with the reference for SECONDS (default 20)
	$(BIN)/nonroot fuzz --seconds $(SECONDS)

examples: $(VENV)/installed ## Run the example guests side by side
	$(BIN)/nonroot run examples/*.asm

build: $(VENV)/installed-dev ## Build the wheel and the source distribution into dist/
	$(BIN)/hatchling build

ci: ## Everything that continuous integration runs
	.ci/run

clean: ## Remove .venv, caches and build output
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# installed: what the commands need; installed-dev: also what the tests and checkers need.
$(VENV)/installed: pyproject.toml | $(VENV)
	$(call pip_install,-e .)
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)
	$(call pip_install,-e '.[dev]')
	@touch $@ $(VENV)/installed

$(VENV):
	@if command -v uv >/dev/null; then uv venv --quiet --python '>=3.11' $(VENV); \
	elif ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo "nonroot needs Python 3.11 or later: set PYTHON=python3.12, say, or install uv" >&2; exit 1; \
	elif ! $(PYTHON) -m venv $(VENV); then \
	  rm -rf $(VENV); echo "The venv module is missing: apt-get install python3-venv" >&2; exit 1; fi

define pip_install
	@echo "Installing nonroot into $(VENV) ..."
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(BIN)/python $(1); \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); fi
endef
