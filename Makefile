# Each target sets itself up: only Python 3.11 or newer, make and a package registry are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint build validate clean

help:
	@echo "make demo      a small class through the whole cycle: build, release, submit, grade, report"
	@echo "make test      lint, types, tests and the graders' laws"
	@echo "make build     lessons and references to source/ and release/"
	@echo "make validate  the laws, over more seeds than make test (SEEDS=20)"
	@echo "make setup     only the virtual environment, in $(VENV)"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "forwardpass needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/forwardpass demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests include the laws on every exercise, so a green run has proven the graders.
test: lint
	$(BIN)/python -m pytest -n 2

build: setup
	$(BIN)/forwardpass build

SEEDS ?= 20
validate: setup
	$(BIN)/forwardpass validate --seeds $(SEEDS)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache
