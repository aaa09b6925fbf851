# `make help` lists the commands. Needs Python 3.11 or newer and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Container images often set this. Then each of hundreds of processes would compile the package, and each of pytest's
# workers all tests: 13 s of CPU a worker.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## run the main example on a real Airflow with a simulated API (KEEP=1 keeps it running, LIVE=1 uses the real API)
	@$(BIN)/python -m demo

demo-stop: $(STAMP) ## stop a demo that KEEP=1 kept running
	@$(BIN)/python -m demo stop

# Three workers on two cores: one of them waits for a real Airflow most of the time. With a fourth, all took longer.
test: $(STAMP) ## run the tests (ARGS go to pytest)
	@$(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)

matrix: $(STAMP) ## run the tests on every supported Airflow: all on the oldest and newest (ONLY=3.1 selects, DAYS=7 changes the date, ARGS go to pytest)
	@$(BIN)/python tests/matrix/run.py $(foreach version,$(ONLY),--only $(version)) $(if $(DAYS),--days $(DAYS)) $(ARGS)

chaos: $(STAMP) ## run random crashes and faults, RUNS times (default 1000; ROWS_RUNS=100 of tables), starting at SEED
	@CHAOS_RUNS=$(or $(RUNS),1000) CHAOS_ROWS_RUNS=$(or $(ROWS_RUNS),100) CHAOS_SEED=$(or $(SEED),1) \
	  $(BIN)/pytest -n 2 tests/crash/test_chaos.py tests/crash/test_killed_rows.py

dates: $(STAMP) ## run the tests 7 days, 6 months and 3 years from now (DAYS=7 selects, ARGS go to pytest)
	@$(BIN)/python tests/faked_dates/run.py $(foreach days,$(DAYS),--days $(days)) $(ARGS)

fuzz: $(STAMP) ## test random and damaged input, FUZZ examples of each kind (5000 take about half an hour), and new examples of each property
	@FUZZ=$(or $(FUZZ),1000) $(BIN)/pytest -n 2 --timeout 0 tests/fuzz $(ARGS)
	@FUZZ=$(or $(FUZZ),1000) $(BIN)/pytest -n 2 --timeout 0 -m hypothesis --ignore tests/fuzz $(ARGS)

lint: $(STAMP) ## check formatting, lint rules and import contracts
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/lint-imports

types: $(STAMP) ## check types with mypy
	@$(BIN)/mypy

bench: $(STAMP) ## measure time and memory, compared with other providers (ONLY=land selects; without ONLY all but tenmillion; 50 min, Linux)
	@$(BIN)/python -m benchmarks $(ONLY) $(ARGS)

peers: $(STAMP) ## measure what lost responses, killed workers and outages cost, compared with other providers (15 min)
	@$(BIN)/python tests/peers/run.py $(ONLY) $(ARGS)

thousand: $(STAMP) ## run 1,000 deferred tasks on one real triggerer through an outage (COUNT=200 for fewer)
	@$(BIN)/python tests/stack/thousand.py --count $(or $(COUNT),1000) $(ARGS)

cluster: $(STAMP) ## run DAGs on PostgreSQL, Redis and Celery while processes are killed (SHORT=1 as in CI, SEED=2)
	@PYTHONPATH=$(CURDIR):$(CURDIR)/tests $(BIN)/python -m cluster --seed $(or $(SEED),1) $(if $(SHORT),--short) $(ARGS)

check: lint types test ## run lint, types and test, as CI does

fmt: $(STAMP) ## format the code and fix lint problems
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean: ## stop the demo and remove everything that these commands created
	@if test -d .airflow && test -x $(BIN)/python; then $(BIN)/python -m demo stop; fi
	rm -rf $(VENV) .airflow .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# uv does not read pip's settings, where people with a package mirror or their own certificate configure it.
pip_setting = $(BIN)/python -m pip config list 2>/dev/null | sed -n "s/^[^=]*\.$(1)='\(.*\)'$$/\1/p" | head -1

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
	  { echo "'$(PYTHON)' was not found. Python 3.11 or newer is needed. Choose one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1). Try: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "Could not create $(VENV). On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing Airflow and the tools into $(VENV) ..."
	@index=$$($(call pip_setting,index-url)); cert=$$($(call pip_setting,cert)); \
	  test -z "$$index" || test -n "$$UV_DEFAULT_INDEX$$UV_INDEX_URL" || export UV_DEFAULT_INDEX="$$index"; \
	  test -z "$$cert" || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$cert}"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv && \
	  $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e . --group dev || \
	  { echo "Installing failed, as the lines above say. The first run needs a package index. Check the network or pip's settings."; exit 1; }
	@touch $@

.DEFAULT:
	@echo "There is no command 'make $@'. The commands are:"; $(MAKE) --no-print-directory help; exit 2

.PHONY: help chaos dates fuzz demo demo-stop test matrix lint types bench peers thousand cluster check fmt clean
