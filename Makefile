# `make help` lists the verbs. Needs Python 3.11+ and make; everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help

help: ## what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## the main job on a real Airflow against the bundled simulator (KEEP=1 leaves it up, LIVE=1 uses the real API)
	@$(BIN)/python -m demo

demo-stop: $(STAMP) ## stop what a demo with KEEP=1 left up
	@$(BIN)/python -m demo stop

test: $(STAMP) ## run the tests
	@$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

matrix: $(STAMP) ## all tests on the oldest and newest Airflow, Airflow's own on those between (ONLY=3.1 narrows, ARGS go to pytest)
	@$(BIN)/python tests/matrix/run.py $(foreach version,$(ONLY),--only $(version)) $(ARGS)

chaos: $(STAMP) ## crashes and faults by seed, RUNS of them from SEED on
	@CHAOS_RUNS=$(or $(RUNS),1000) CHAOS_SEED=$(or $(SEED),1) $(BIN)/pytest -n 2 tests/crash/test_chaos.py

dates: $(STAMP) ## the tests under the dates of +7 days, +6 months and +3 years (DAYS=7 narrows, ARGS go to pytest)
	@$(BIN)/python tests/faked_dates/run.py $(foreach days,$(DAYS),--days $(days)) $(ARGS)

fuzz: $(STAMP) ## strange and damaged input, FUZZ examples of each kind, other ones every time (5000: half an hour or so)
	@FUZZ=$(or $(FUZZ),1000) $(BIN)/pytest -n 2 --timeout 0 tests/fuzz $(ARGS)

lint: $(STAMP) ## formatting, lint rules, import contracts
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

bench: $(STAMP) ## what parsing, submitting, waiting and landing cost beside the peers (ONLY=land narrows; 30 min, Linux)
	@$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

peers: $(STAMP) ## what a lost answer, a killed worker or an outage costs with Apache's providers, and with ours (15 min)
	@$(BIN)/python tests/peers/run.py $(ONLY) $(ARGS)

thousand: $(STAMP) ## 1,000 deferred tasks on one real triggerer, through an outage (COUNT=200 for fewer; each starts two processes)
	@$(BIN)/python tests/stack/thousand.py --count $(or $(COUNT),1000) $(ARGS)

cluster: $(STAMP) ## PostgreSQL, Redis, Celery and two of everything, taken apart by a script (SHORT=1: what CI runs; SEED=2)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m cluster --seed $(or $(SEED),1) $(if $(SHORT),--short) $(ARGS)

check: lint types test ## what CI runs

fmt: $(STAMP) ## format and fix
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## remove what the other verbs made
	@if test -d .airflow && test -x $(BIN)/python; then $(BIN)/python -m demo stop; fi
	rm -rf $(VENV) .airflow .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# uv does not read pip's settings, and whoever has a mirror or a certificate of his own has told them to pip.
pip_setting = $(BIN)/python -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.$(1)='\(.*\)'$$/\1/p" | head -1

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "There is no '$(PYTHON)' here. Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1). Try: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "Could not make $(VENV). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing Airflow and the tools into $(VENV) ..."
	@index=$$($(call pip_setting,index-url)); cert=$$($(call pip_setting,cert)); \
	  test -z "$$index" || test -n "$$UV_DEFAULT_INDEX$$UV_INDEX_URL" || export UV_DEFAULT_INDEX="$$index"; \
	  test -z "$$cert" || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$cert}"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e . --group dev || \
	  { echo "Installing failed (the lines above say why). A first run needs a package index: check the network or pip's settings."; exit 1; }
	@touch $@

.DEFAULT:
	@echo "There is no 'make $@'. There is:"; $(MAKE) --no-print-directory help; exit 2

.PHONY: help chaos dates fuzz demo demo-stop test matrix lint types bench peers thousand cluster check fmt clean
