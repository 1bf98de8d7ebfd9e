# Everything starts here: `make up` serves a model, `make test` proves it. `make` lists the rest.

PYTHON ?= python3
EXTRA ?= auto
NIXL ?=
MODEL ?=
PREFILL ?=
DECODE ?=
PORT ?=
DETACH ?=
ARGS ?=
TRACE ?=

SHELL := /bin/bash
BIN := .venv/bin
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Only what was given is passed on: the defaults live in `baton up --help`.
UP_FLAGS = $(if $(PREFILL),--prefill $(PREFILL)) $(if $(DECODE),--decode $(DECODE)) \
	$(if $(MODEL),--model "$(MODEL)") $(if $(PORT),--port $(PORT)) \
	$(if $(filter-out 0 no false,$(DETACH)),--detach) $(ARGS)

.PHONY: help setup up down status handoff replay policies slow-link soak conversations credits chaos chaos-transfer wire streams big-fleet decision test test-long lint types check format pins clean

help: ## Show this list
	@echo "Baton: prefill and decode in separate vLLM workers, one OpenAI-compatible endpoint."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make up MODEL=path-or-hub-id PREFILL=1 DECODE=1 PORT=8000 DETACH=1 EXTRA=cpu|gpu ARGS='--max-model-len 4096'"
	@echo "  make test ARGS='-k ticket'"

setup: ## Set up .venv with pinned packages and generated stubs; what is unchanged is skipped
	@$(PYTHON) -m scripts.setup --extra $(EXTRA) $(if $(filter-out 0 no false,$(NIXL)),--nixl)

up: setup ## Serve a model; Ctrl-C stops everything, DETACH=1 returns when ready
	@exec $(BIN)/baton up $(UP_FLAGS)

down: ## Stop what DETACH=1 left running
	@if [ -x $(BIN)/baton ]; then exec $(BIN)/baton down; else echo "nothing is set up here, so nothing runs"; fi

status: ## Show the processes, their load and the bytes moved
	@if [ -x $(BIN)/baton ]; then $(BIN)/baton status || test $$? -eq 3; else echo "nothing is set up here, so nothing runs"; fi

handoff: setup ## Measure the hand-off: prefill, TTFT, exposed transfer, GB/s
	@exec $(BIN)/python -m loadtest.handoff $(ARGS)

replay: setup ## Replay a trace of requests: ARGS='TRACE --fleet sim|URL'
	@exec $(BIN)/python -m loadtest.replay $(ARGS)

policies: setup ## Replay a Mooncake trace under four routing policies: TRACE=FILE
	@test -n "$(TRACE)" || { echo "error: TRACE=FILE.jsonl is wanted: a trace in Mooncake's format"; exit 2; }
	@exec $(BIN)/python -m loadtest.policies "$(TRACE)" $(ARGS)

slow-link: setup ## Measure TTFT over a slow link between two network namespaces (root)
	@exec $(BIN)/python -m tests.suites.slow_link $(ARGS)

soak: setup ## Hand over 2,000 prompts, 16 at once: tokens, memory, leaks
	@exec $(BIN)/python -m tests.suites.soak $(ARGS)

conversations: setup ## Hold conversations of ten turns: what engines compute of each
	@exec $(BIN)/python -m tests.suites.conversations $(ARGS)

credits: setup ## Overload small decode caches with long prompts: preemptions, failed loads
	@exec $(BIN)/python -m tests.suites.credits $(ARGS)

chaos: setup ## Break workers and links at random moments under real engines (root)
	@exec $(BIN)/python -m tests.suites.chaos $(ARGS)

chaos-transfer: setup ## Break workers and links at random moments, without engines (root)
	@exec $(BIN)/python -m tests.suites.transfer_chaos $(ARGS)

streams: setup ## 5,000 streams at once over 200 simulated workers: tokens, memory
	@$(BIN)/baton model fetch
	@exec $(BIN)/python -m tests.suites.streams $(ARGS)

big-fleet: setup ## Time routing decisions: 1,000 workers, 10 million blocks
	@exec $(BIN)/python -m tests.suites.big_fleet $(ARGS)

decision: setup ## Hand-off always, never and as measured, in seven scenarios
	@$(BIN)/baton model fetch
	@exec $(BIN)/python -m loadtest.decision $(ARGS)

wire: setup ## Compare the wire formats: accuracy, bytes
	@$(BIN)/baton model fetch
	@exec $(BIN)/python -m tests.suites.wire_accuracy $(ARGS)

test: setup ## Run all tests, real engines included
	@$(BIN)/baton model fetch
	@exec $(BIN)/python -m pytest $(ARGS)

test-long: setup ## Run the tests that `make test` leaves out: NIXL
	@$(BIN)/baton model fetch
	@exec $(BIN)/python -m pytest -m long $(ARGS)

lint: setup ## Check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## Check types
	@exec $(BIN)/mypy

check: lint types test ## All of the three

format: setup ## Format the code and mend what can be mended safely
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

pins: setup ## Resolve the dependencies afresh into constraints/
	@exec $(BIN)/python -m scripts.pin

clean: ## Remove .venv, generated stubs and caches; models and logs in .baton stay
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache proto/*_pb2*.py proto/*_pb2*.pyi
	@find . -name __pycache__ -type d -not -path './.baton/*' -prune -exec rm -rf {} +
