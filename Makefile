# The first Python that runs; `make PYTHON=/path/to/python3.12 ...` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c "" 2>/dev/null && break; done; echo $$p)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev quickstart test test-fast lint types docs clean

# Three processes, each with a ray of its own: some wait, for processes or clocks.
PYTEST = .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=60

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## Make .venv and install the package in it
	@$(PYTHON) tools/bootstrap.py

setup-dev: ## The same, with what the tests and the linter need
	@$(PYTHON) tools/bootstrap.py --dev

quickstart: setup ## Set up and train a small model, minutes on a CPU
	@.venv/bin/python tuned_examples/quickstart_arithmetic.py

test: setup-dev ## Set up and run the tests
	@$(PYTEST)

test-fast: setup-dev ## Set up and run the tests that start neither ray nor vLLM
	@$(PYTEST) -m "not ray and not vllm"

lint: setup-dev ## Check style and formatting
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .

types: setup-dev ## Check the type hints
	@.venv/bin/python -m mypy

docs: setup-dev ## Make the site in site/, strictly: no broken link, no page left out
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet

clean: ## Remove .venv and the tools' caches
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist site
