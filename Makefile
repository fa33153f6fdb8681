# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup run test test-slow lint bench bench-env gradient-matrix decoders mlflow clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# torch first and by its exact version: a range would take a build with several GB of CUDA packages.
$(READY): pyproject.toml setup.py constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (a few minutes, once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

setup: $(READY) ## make the environment in .venv from pinned constraints

run: $(READY) ## the whole path on the packages installed here: crawl to searchable, tracked models
	@$(BIN)/cpt-ray demo

test: $(READY) ## the tests
	$(BIN)/python -m pytest

test-slow: $(READY) ## the long ones: whole demos killed and resumed
	$(BIN)/python -m pytest -m slow --timeout 7200

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# No test runs the benchmarks: that the names and arguments they use are still there is looked at here.
	cd benchmarks && $(abspath $(BIN))/mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache/benchmarks \
		--disable-error-code misc --disable-error-code arg-type *.py

mlflow: $(READY) ## the MLflow UI over the runs in outputs/
	$(BIN)/mlflow ui --backend-store-uri sqlite:///outputs/mlflow.db --port 5000

bench-env: ## the peers, in an environment of their own
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check -r benchmarks/requirements.txt
	.venv-bench/bin/python -m pip install -q --disable-pip-version-check --no-deps text-dedup==0.4.0 function_parser==0.0.4

bench-%: $(READY) ## one area against its peers: bench-dedup, bench-train, ...
	$(BIN)/python benchmarks/$*.py

decoders: $(READY) ## every decoder family of transformers, tiny: trained, published, opened in every way
	$(BIN)/python benchmarks/decoders.py

bench: $(READY) ## every area
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

gradient-matrix: $(READY) ## gradients under ZeRO 0-3 against a full-batch fp64 oracle
	$(BIN)/python benchmarks/gradient_matrix.py

clean: ## remove what was made (outputs and caches), keep the environment
	rm -rf outputs build dist .pytest_cache .mypy_cache .ruff_cache
