# Needs only make and Python 3.11 to 3.13. Everything is installed into .venv of this folder.

# The first suitable interpreter; `make PYTHON=/path/to/python3.12 ...` chooses another.
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUITABLE)' >/dev/null 2>&1 && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST_ARGS ?=
AUDIT_ARGS ?=
FUZZ_ARGS ?=
MATRIX_ARGS ?=
BENCH_ARGS ?=
CLUSTER_ARGS ?=
FAILURES_ARGS ?=
SOURCES = $(wildcard seedance_provider dags_examples tests devtools benchmarks)

.DEFAULT_GOAL := help
.PHONY: help demo demo-ui test test-slow test-matrix cluster failures fuzz bench lint audit types docs format build clean runtime dev celery python

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: runtime ## run an example on a real local Airflow against the emulator, print its result
	@$(BIN)/python devtools/demo.py

demo-ui: runtime ## the same, and keep Airflow's web UI running until Ctrl-C
	@$(BIN)/python devtools/demo.py --ui

test: dev ## run every test but the slow ones, with coverage (PYTEST_ARGS="-k name": only some, and no minimum of coverage)
	@$(BIN)/coverage erase
	@$(BIN)/python devtools/run_tests.py $(PYTEST_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report $(if $(PYTEST_ARGS),--fail-under=0)

test-slow: dev ## run the tests that take minutes with real processes: forms that are answered, callbacks behind a proxy
	@$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

test-matrix: dev ## run what needs no Airflow processes on Airflow 2.11 to 3.4 (AIRFLOW=3.1: on one; TESTS=file: only some)
	@$(BIN)/python devtools/test_matrix.py $(AIRFLOW) $(if $(TESTS),--tests $(TESTS)) $(MATRIX_ARGS)

fuzz: dev ## feed all readers of foreign bytes with a million broken inputs (FUZZ_ARGS="--seconds 60 --seed 7": for a minute)
	@$(BIN)/python devtools/fuzz.py $(FUZZ_ARGS)

cluster: celery ## run a production-like Airflow until Ctrl-C: PostgreSQL, Redis, Celery, two of each (CLUSTER_ARGS="--ledger s3")
	@$(BIN)/python devtools/cluster.py $(CLUSTER_ARGS)

failures: celery ## break that Airflow in each way of devtools/failures.py, write docs/failures.md (FAILURES_ARGS="--scenario redis_gone")
	@$(BIN)/python devtools/failures.py $(FAILURES_ARGS)

bench: python ## measure beside peers and bare loops, write benchmarks/results (BENCH_ARGS="--quick": rough, nothing written)
	@$(PYTHON) devtools/setup_venv.py bench --venv $(VENV)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

lint: dev ## check style and formatting
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

audit: dev ## check the package by bandit, the workflows by zizmor, the dependencies for known vulnerabilities by pip-audit
	@$(BIN)/bandit -q -c pyproject.toml -r seedance_provider
	@$(BIN)/zizmor --offline --quiet .github
	@$(BIN)/python devtools/audit.py $(AUDIT_ARGS)

types: dev ## check types
	@$(BIN)/mypy
	@$(BIN)/mypy devtools

docs: dev ## build the documentation site into site/; a broken link or anchor fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: dev ## format, and fix what can be fixed
	@$(BIN)/ruff check --fix-only $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

build: dev ## build the wheel and the source distribution into dist/
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation

clean: ## remove the virtual environment and everything generated
	@rm -rf .venv .venv-* .cache .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist htmlcov site
	@find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

runtime: python
	@$(PYTHON) devtools/setup_venv.py runtime --venv $(VENV)

dev: python
	@$(PYTHON) devtools/setup_venv.py dev --venv $(VENV)

celery: python ## install what dev has and what the cluster needs
	@$(PYTHON) devtools/setup_venv.py cluster --venv $(VENV)

python:
	@$(if $(PYTHON),,echo "Python 3.11, 3.12 or 3.13 is needed and none was found; try make PYTHON=/path/to/python3.12" >&2; exit 1)
	@$(PYTHON) -c '$(SUITABLE)' || { echo "Python 3.11 to 3.13 is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; exit 1; }
