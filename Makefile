# `make help` lists the targets. Everything runs in .venv, built from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# One process per core, each with one thread, so that they do not fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 8
# What tests expect of numbers is what a CPU gives.
ON_CPU := CUDA_VISIBLE_DEVICES= $(PYTEST)

.PHONY: help install demo test test-all test-gpu lint format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## build .venv with the tested versions

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "skelcl needs Python 3.11 or newer, found " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@

demo: install ## raw files → store → four methods → one table and pictures, on generated data, in minutes
	BIN=$(BIN) sh experiments/demo.sh

test: install ## fast test suite (real-data tests run when SKELCL_NW_UCLA is set)
	$(ON_CPU)

test-all: install ## the slow tests too
	$(ON_CPU) -m 'not gpu'

test-gpu: install ## the tests that need a CUDA device, one after the other
	$(PYTEST) -n 0 -m gpu

lint: install ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove everything that was built or generated
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
