# Everything lives in .venv and .antiphon; nothing else on the machine is touched.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export ANTIPHON_HOME ?= $(CURDIR)/.antiphon

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test endure-kill check lock bench

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(VENV)/.ready ## make .venv with what requirements.lock names

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## fetch the default model, start the server, stream an answer
	@$(BIN)/antiphon demo

serve: setup ## start the server
	@$(BIN)/antiphon serve

# Of one file, tests share servers and models: they stay together.
test: setup ## all tests, two files at a time
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

endure-kill: setup ## kill a server under load 50 times; every answer seen complete has one record
	ANTIPHON_TEST_KILLS=50 $(BIN)/pytest tests/ledger/test_kill_under_load.py -s

check: setup ## format, lint, types, import contracts
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy src tests bench
	$(BIN)/lint-imports --no-cache

lock: setup ## write requirements.lock anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras --group dev pyproject.toml -o requirements.lock

bench: bench-gateway bench-fairness bench-peers bench-engine bench-structured bench-cache ## all benches (but bench-claude-code and bench-tools)

bench-%: setup
	$(BIN)/python -m bench.$(subst -,_,$*) $(ARGS)
