# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv, once, and says what it does.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock

.PHONY: help demo test lint clean

help:
	@echo "make demo   set up, then run the whole way on the embedded models (runs/demo/report.html)"
	@echo "make test   set up, then run the tests"
	@echo "make lint   set up, then check style and types"
	@echo "make clean  remove .venv and caches (runs/ is kept)"

demo: $(VENV)/.runtime
	@echo "== running the demo: prompts -> pairs -> adapters -> merges -> evaluation -> report"
	@$(BIN)/prefdelta demo

test: $(VENV)/.development
	@echo "== running the tests"
	@$(BIN)/python -m pytest -n auto --dist worksteal

lint: $(VENV)/.development
	@echo "== checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; install Python 3.11 or run: make PYTHON=python3 ..."; exit 1; }
	@echo "== creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml requirements.lock | $(BIN)/python
	@echo "== installing prefdelta and its pinned requirements into $(VENV) (first time: a few minutes)"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable .
	@touch $@

$(VENV)/.development: pyproject.toml requirements.lock | $(BIN)/python
	@echo "== installing prefdelta and its pinned test requirements into $(VENV) (first time: a few minutes)"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[test,lint]'
	@touch $@ $(VENV)/.runtime
