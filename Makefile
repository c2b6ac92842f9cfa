PYTHON ?= python3
BIN := .venv/bin
DATA ?=
OUT ?= runs/demo

.PHONY: demo test check methods format clean

demo: .venv/ready  ## train MoCo on photographs, or on DATA=folder, and show what it learnt
	$(BIN)/lightly-aug demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

test: .venv/ready  ## everything: property tests, doctests, README, notebooks
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --nbmake notebooks lightly_aug tests

check: .venv/ready  ## format, lint, types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy lightly_aug
	$(BIN)/pytest -q tests/test_imports.py

methods: .venv/ready  ## every method on one budget, half an hour on two cores
	$(BIN)/python -m benchmarks.methods

format: .venv/ready
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv runs .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/ready: pyproject.toml
	@echo "installing into .venv (PyTorch alone is some GB: this takes minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[all,dev]'
	touch $@
