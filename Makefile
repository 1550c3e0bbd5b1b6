# `make help` says what each target does. Only Python 3.11 or newer, make and git are needed.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py

# The first Python that starts and is new enough (a pyenv shim may exist and do neither).
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$p; exit; fi; done; echo python3)

# Where `make run` answers: make run PORT=9000
PORT ?= 8000
# How many processes `make test` uses. Three on two cores take as long or longer (2026-11-21).
JOBS ?= 2
# SECOND_GO=1, as in CI: what fails gets one more go in its worker (listed as RERUN), then one in a
# new process, so that no broken state of one process speaks for the product. Each is a bug to mend.
SECOND_GO ?=
# Stolen work keeps the tests of a file together: what they share (a gateway, a simulator) starts once.
PYTEST := -m pytest -n $(JOBS) --dist worksteal --reruns $(if $(SECOND_GO),1,0) -r sRfE
ONLY_FAILED := --last-failed --last-failed-no-failures none

.PHONY: help
help: ## list the targets
	@echo "Usage: make TARGET. Most used: run, test, check."
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: ## put the pinned packages that run into .venv (done by run, worker)
	@$(PYTHON) tools/install.py runtime

.PHONY: install-dev
install-dev: ## put the pinned packages that check into .venv (done by test, check)
	@$(PYTHON) tools/install.py dev

.PHONY: run
run: install ## prepare what is missing, then serve on 127.0.0.1:8000 until Ctrl-C
	@exec $(MANAGE) first_run --serve --port $(PORT)

.PHONY: demo-key
demo-key: install ## make and show one more key for the demo tenant
	@$(MANAGE) first_run --new-key

.PHONY: worker
worker: install ## run one more worker and beat (needs REDIS_URL: see docs/deploy.md)
	@exec $(MANAGE) serve --only background

# With bytecode written: what is not is compiled anew by each of some hundred processes.
SQLITE_TESTS := env -u DATABASE_URL -u REDIS_URL -u STATE_DIR -u PYTHONDONTWRITEBYTECODE \
	$(BIN)/python $(PYTEST) -m "not soak"
STORAGE_TESTS := env -u STATE_DIR -u PYTHONDONTWRITEBYTECODE $(BIN)/python tests/services.py $(BIN)/python $(PYTEST) \
	-m "storage and not soak" $$(grep -rl --include='test_*.py' 'mark\.storage' tests)

.PHONY: test
test: install-dev ## run every test on SQLite, then storage tests on PostgreSQL and Valkey
	@$(SQLITE_TESTS) $(if $(SECOND_GO),|| $(SQLITE_TESTS) $(ONLY_FAILED))
	@$(STORAGE_TESTS) $(if $(SECOND_GO),|| $(STORAGE_TESTS) $(ONLY_FAILED))

.PHONY: soak
soak: install-dev ## the long tests: a million hostile inputs, thousands of callers that hang up
	@env -u DATABASE_URL -u REDIS_URL -u STATE_DIR $(BIN)/python -m pytest -n $(JOBS) -m soak
	@env -u STATE_DIR $(BIN)/python tests/services.py $(BIN)/python -m pytest -n $(JOBS) \
		-m "soak and storage"
	@env -u DATABASE_URL -u REDIS_URL -u STATE_DIR PCP_TO_THE_LETTER=1 $(BIN)/python -m pytest -n 0 -m timed
	@env -u DATABASE_URL -u REDIS_URL -u STATE_DIR PCP_EXAMPLES=30 $(BIN)/python -m pytest -n $(JOBS) \
		tests/providers/protocols tests/conformance/test_nothing_silent.py -m "not soak"

.PHONY: check
check: install-dev ## style, types, import rules, migrations, deployment settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# Its plugin loads the test settings; with a folder named, they make none to leave behind.
	STATE_DIR=build/mypy $(BIN)/mypy
	$(BIN)/python -m pytest -q -n 0 tests/architecture
	$(MANAGE) makemigrations --check --dry-run --settings controlplane.settings.test
	$(BIN)/python tools/check_deploy.py

.PHONY: fmt
fmt: install-dev ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: catalog
catalog: install ## check every provider file and list the providers
	@$(MANAGE) catalog check
	@$(MANAGE) catalog list

.PHONY: docs
docs: install ## write the generated pages anew (docs/providers.md, docs/protocol-matrix.md)
	@$(BIN)/python tools/docs/providers.py
	@$(BIN)/python tools/protocol_matrix.py

.PHONY: golden
golden: install-dev ## write the golden files anew; read the diff
	@PCP_WRITE_GOLDEN=1 $(BIN)/python -m pytest -q tests/conformance \
		tests/providers/catalog/test_every_provider.py

.PHONY: compose-secrets
compose-secrets: ## make the random secrets that compose.yaml mounts
	@$(PYTHON) tools/compose_secrets.py

.PHONY: bench
bench: install-dev ## measure the gateway beside nginx (needs nginx and wrk), and planning: BENCH="--rounds 1"
	@$(BIN)/python -m tools.bench $(BENCH)
	@$(BIN)/python tools/bench_plan.py

.PHONY: lock
lock: install-dev ## pin requirements*.txt anew: hashes, every platform, a week old at least
	$(BIN)/python tools/lock.py

.PHONY: bench-plan
bench-plan: install-dev ## what planning a request costs (docs/performance.md)
	@$(BIN)/python tools/bench_plan.py

.PHONY: first-run-check
first-run-check: ## clone, make run, time it until the curl answers (docs/performance.md)
	@$(PYTHON) tools/first_run_check.py --record

.PHONY: bench-codecs
bench-codecs: install-dev ## CPU time of every codec against its target (docs/performance.md)
	@$(BIN)/python tools/bench_codecs.py --record

.PHONY: bench-quotas
bench-quotas: install-dev ## CPU of limits, hold and ledger per request (REDIS_URL: with Redis)
	@$(BIN)/python tools/bench_quotas.py

.PHONY: bench-reports
bench-reports: install-dev ## the pages of spending with 10 million rows: BENCH="--events 1000000"
	@$(BIN)/python tests/services.py $(BIN)/python tools/bench_reports.py $(BENCH)

.PHONY: clean
clean: ## remove .venv and caches; var/ with its database and secrets stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis staticfiles build
