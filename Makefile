PYTHON ?= python3
BIN := .venv/bin
DATA ?=
OUT ?= runs/demo
JOBS ?= auto
TRITONS ?= 3.3.1 3.4.0 3.5.1 3.6.0 3.7.1 3.8.0 3.9.0
MUTANTS ?=
PROFILE ?= $(or $(HYPOTHESIS_PROFILE),quick)

# one thread for each process of JOBS, so that they do not wait for each other's cores
PYTEST := OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=$(PROFILE) $(BIN)/pytest --numprocesses $(JOBS) --dist loadgroup
TESTS := --nbmake notebooks lightly_aug tests

.DEFAULT_GOAL := help
.PHONY: help demo test coverage check mutation docs docs-serve notebooks methods gpu-static package format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/ready  ## train MoCo on photographs, or on DATA=folder, and show what it learnt
	$(BIN)/lightly-aug demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

test: .venv/ready  ## run all tests on all cores, or JOBS=2; PROFILE=full tries as many examples as CI
	QUICK=1 $(PYTEST) $(if $(COVERAGE),--cov --cov-report=term) $(TESTS)

coverage:  ## run all tests and report the lines they miss; fail below the floor in pyproject.toml
	$(MAKE) test COVERAGE=1

check: .venv/ready  ## check format, lint, types and import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py

mutation: .venv/ready  ## break the core in thousands of ways, or only MUTANTS='lightly_aug.loss*', and list what no test notices
	rm -rf mutants
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=quick $(BIN)/mutmut run $(foreach names,$(MUTANTS),'$(names)')
	$(BIN)/mutmut results

docs: .venv/ready  ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: .venv/ready  ## serve the documentation, and build it again when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

notebooks: .venv/ready  ## run the tutorials, and store their outputs in them
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

methods: .venv/ready  ## train every method on one budget: half an hour on two cores
	$(BIN)/python -m benchmarks.methods

gpu-static: .venv/ready  ## compile the GPU kernels with each Triton of TRITONS, check registers and what they draw
	@failed=; for version in $(TRITONS); do \
		folder=$$(mktemp -d); \
		$(BIN)/pip install --quiet --no-deps --target $$folder triton==$$version && \
		export TRITON_CACHE_DIR=$$folder/cache PYTHONPATH="$$folder:$$PWD/tests:$$PWD" && \
		$(BIN)/python -m benchmarks.gpu_static --images 0 && \
		$(BIN)/python -m helpers.gpu_cases 34 photographs float32 floats "channels last" || \
		failed="$$failed $$version"; \
		rm -rf $$folder; \
	done; \
	if [ -n "$$failed" ]; then echo "failed with Triton$$failed"; exit 1; fi; \
	echo "the GPU kernels are within budget, and right, with Triton $(TRITONS)"

package: .venv/ready  ## build the sdist and the wheel into dist/, and run the tests of the sdist
	rm -rf dist
	$(BIN)/hatchling build -d dist
	mkdir dist/unpacked && tar -xzf dist/*.tar.gz -C dist/unpacked --strip-components 1
	cd dist/unpacked && PYTHONPATH="$$PWD" $(subst $(BIN),$(CURDIR)/$(BIN),$(PYTEST)) lightly_aug tests

format: .venv/ready  ## format, and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## remove the environment, caches and results
	rm -rf .venv dist runs site .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis mutants

.venv/ready: pyproject.toml
	@echo "installing into .venv (PyTorch alone is some GB: this takes minutes, once)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[all,dev]'
	touch $@
