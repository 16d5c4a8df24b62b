# Each target sets itself up: only Python 3.11 or newer, make and a package registry are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help setup demo test lint build validate fuzz storm gpu bench clean

help:
	@echo "make demo      a small class through the whole cycle: build, release, submit, grade, report"
	@echo "make test      lint, types, tests and the graders' laws"
	@echo "make build     lessons and references to source/ and release/"
	@echo "make validate  the laws, over more seeds than make test (SEEDS=20)"
	@echo "make fuzz      hostile replies, notebooks and journals, for minutes (FUZZ_SECONDS=300)"
	@echo "make storm     grading killed at random moments, to lose nothing (KILLS=50)"
	@echo "make bench     how fast a class is graded, against nbgrader and no isolation (build/bench.json)"
	@echo "make gpu       the laws, attacks and rates on an NVIDIA GPU, with a dated record in tests/gpu/"
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

# Many examples of what `make test` tries a few of, and then by coverage, for so many seconds each.
FUZZ_EXAMPLES ?= 3000
FUZZ_SECONDS ?= 300
fuzz: setup
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz
	$(BIN)/python -m pip install --quiet 'atheris>=2.3,<4'
	$(BIN)/python tests/fuzz/guided.py replies -max_total_time=$(FUZZ_SECONDS)
	$(BIN)/python tests/fuzz/guided.py notebooks -max_len=4096 -max_total_time=$(FUZZ_SECONDS)

# Grading killed at random moments, over and over; each kill and what it met is printed.
KILLS ?= 50
storm: setup
	$(BIN)/python tests/gradebook/kill_storm.py --kills $(KILLS)

# Figures of this machine, this minute; BENCH may name parts and sizes: make bench BENCH="stages --size 20".
BENCH ?=
bench: setup
	$(BIN)/python tests/benchmarks/bench.py $(BENCH)

# On a machine that has a GPU and, for its Python, torch, numpy, pytest and nbformat: no set-up.
GPU_PYTHON ?= $(PYTHON)
gpu:
	$(GPU_PYTHON) tests/gpu/prove.py

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache
