# What a person types; everything real is in scripts/ and in the harness itself.
SHELL := /bin/bash
BIN := .venv/bin
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo --preserve-env)
ISOLATED := $(AS_ROOT) scripts/in-namespace

.PHONY: help setup run test test-unit lint bench bench-reports soak
help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what is missing, build the guest images once
	@scripts/setup

run: setup ## a whole maintenance on three real guests, which are removed again
	@$(ISOLATED) $(BIN)/harness lab try

lint: ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test-unit: ## the quick tests: no root, no guests
	@$(BIN)/pytest tests/unit

test: setup lint ## every test, on real guests too
	@HARNESS_REQUIRE=guest,browser,postgresql $(ISOLATED) $(BIN)/pytest

bench: setup ## what a maintenance costs, printed as a table
	@$(ISOLATED) $(BIN)/python -m benchmarks.maintenance
	@$(ISOLATED) $(BIN)/python -m benchmarks.guardian

bench-reports: ## what reports and the history cost; needs no guests
	@$(BIN)/python -m benchmarks.reports

N ?= 20
soak: setup ## kill N maintenances at random instants; strand nobody
	@$(ISOLATED) $(BIN)/python -m benchmarks.soak $(N)
