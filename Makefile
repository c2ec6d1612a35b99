# make run   sets up what is missing, plays a sample business day on real servers, and proves that no cent is missing
# make test  sets up the same and runs every test
# Servers that were started for a target are stopped again, unless KEEP=1. Ports: config/default.toml, section stack.

.DEFAULT_GOAL := help
.PHONY: help run fast cover check test bench lint up down stack clean venv browser compiled lock

PYTHON := .venv/bin/python
STACK := $(PYTHON) -m devtools.stack
PYTEST_ARGS ?=

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 8

run: compiled ## a sample business day, from set-up to verdict
	@$(STACK) with .venv/bin/balance demo

# Three at once, since half of a test's time is waiting; the project's files are parsed by one of them.
fast: venv ## what starts no server: unit, golden and architecture tests
	@$(PYTHON) -m pytest -q -n 3 --dist loadgroup tests/unit tests/golden tests/architecture $(PYTEST_ARGS)

check: lint fast cover ## lint, fast and cover: before every push

cover: venv ## the ledger's own tests take every branch of it
	@BALANCE_COMPILED=0 $(PYTHON) -m coverage run -m pytest -q tests/unit/ledger tests/golden
	@$(PYTHON) -m coverage report

# Two at once, since half of a test's time is waiting; a file's tests stay together and share its fixtures.
test: venv browser ## every test, real servers included
	@$(STACK) with $(PYTHON) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

bench: compiled ## measure; prints a table and writes bench-results.json; BASE=COMMIT: both in turn, bench-compare.json
	@$(STACK) with $(PYTHON) -m tests.bench $(if $(BASE),--base $(BASE)) $(BENCH_ARGS)

lint: venv ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

up: compiled stack ## the servers and every process of the service run in the background, until make down
	@.venv/bin/balance up --detach
	@echo "make down stops the processes and the servers"

# Without .venv and .stack nothing of this checkout runs: then none is made only to say so.
down: $(if $(wildcard .venv .stack),venv) ## stop the processes, then the servers
	@test -x $(PYTHON) || echo "nothing of this checkout runs: it has neither .venv nor .stack"
	@test ! -x $(PYTHON) || { .venv/bin/balance down && $(STACK) down; }

stack: venv ## the servers only
	@$(STACK) up

# A module that was edited runs as plain Python in tests, so that nobody waits for the compiler after each edit.
venv: ## .venv with the locked packages
	@bin/setup --no-recompile

compiled: ## the same, and machine code of the modules that decide, made anew if one of them was edited
	@bin/setup

browser: ## Chromium, in which tests look at the operators' page
	@bin/browser

lock: venv ## renew requirements/*.txt from pyproject.toml
	@bin/lock

clean: ## remove the servers' data and logs, .venv, and what tools left; not the downloads in ~/.cache/balance
	@test ! -x $(PYTHON) || { .venv/bin/balance down && $(STACK) down; }
	@rm -rf .stack .venv .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache balance.egg-info build processors/_compiled* bench-results.json bench-compare.json
	@find devtools processors tests -name __pycache__ -type d -prune -exec rm -rf {} +
