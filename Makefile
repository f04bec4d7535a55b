PYTHON ?= python3
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo figures notebooks notebooks-quick gallery test test-slow lint format docs docs-serve clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

setup: .venv/.done  ## Set everything up in .venv, at the versions of constraints.txt

.venv/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "latentopt needs Python >= 3.11, not " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup  ## Reconstruct 16 handwritten digits through the shipped VAE, into runs/digits
	$(BIN)/latentopt run digits

figures: setup  ## Rewrite every table of README.md and docs from docs/results
	$(BIN)/python docs/figures.py

notebooks: setup  ## Execute the notebooks and keep their outputs
	$(BIN)/python notebooks/execute.py

notebooks-quick: setup  ## Execute reduced copies of the notebooks, in a temporary folder
	$(BIN)/python notebooks/execute.py --quick

gallery: setup  ## Draw docs/gallery and write docs/gallery.md
	$(BIN)/python docs/gallery.py

test: setup  ## Run the tests
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist worksteal

test-slow: setup  ## Run the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: setup  ## Check style, types and the import floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

format: setup  ## Mend style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup  ## Build the documentation into site/, strictly: a dead link is an error
	$(BIN)/mkdocs build --strict

docs-serve: setup  ## Show the documentation on http://127.0.0.1:8000, rebuilt as it is edited
	$(BIN)/mkdocs serve

clean:  ## Remove the environment and caches; results in runs/ stay
	rm -rf .venv dist build site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
