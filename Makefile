# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help install demo test check format docs serve mutation clean

MUTATION ?= --sample 10

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.dev ## make the virtual environment with everything that tests need
demo: $(VENV)/.demo ## score real photographs and write a report
	@$(BIN)/vlm-ood demo --report demo-report

test: $(VENV)/.dev ## install what tests need and pass them
	@$(BIN)/pytest -q -n 2 --dist loadfile

check: $(VENV)/.dev ## format, lint, types, spelling
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/codespell

format: $(VENV)/.dev ## format the code and mend what lint can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write the README's table of methods from the classes
	@$(BIN)/python docs/method_table.py

serve: $(VENV)/.demo ## start the server on this machine
	@$(BIN)/vlm-ood serve

mutation: $(VENV)/.dev ## plant faults and print those that no test finds; MUTATION='' plants all, in hours
	@$(BIN)/pip install --quiet -e '.[dev,mutation]'
	@nice $(BIN)/python -m benchmarks.mutation $(MUTATION)

clean: ## remove the environment and what the tools left
	rm -rf $(VENV) demo-report dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vlm-ood needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python pyproject.toml
	@echo "installing: PyTorch alone can be several GB, this takes minutes the first time"
	@$(BIN)/pip install --quiet -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml
	@echo "installing: PyTorch alone can be several GB, this takes minutes the first time"
	@$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.demo
