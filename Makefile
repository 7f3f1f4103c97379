# Set-up and everyday commands. `make help` lists them. Every target first creates what it needs.

# Any Python from 3.11 on. If this one is older or missing, python3.13, 3.12 and 3.11 are tried.
PYTHON ?= python3
VENV ?= .venv
# torch is installed first and on its own. On Linux, the registry's wheel may bring several GB of CUDA packages. On a
# machine without a GPU, set TORCH_INDEX to the URL of the CPU index that pytorch.org names, or to a folder of wheels.
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
CONSTRAINTS := .ci/constraints.txt
# A URL is an index, anything else a folder of wheels.
TORCH_FLAGS = $(if $(TORCH_INDEX),$(if $(filter http% file:%,$(TORCH_INDEX)),--index-url,--find-links) $(TORCH_INDEX))

.DEFAULT_GOAL := help
.PHONY: help set-up demo test test-all airflow lint bench clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  variables   (now)"
	@echo "  PYTHON      $(PYTHON): the interpreter, 3.11 or newer"
	@echo "  VENV        $(VENV): the folder of the environment"
	@echo "  TORCH       $(TORCH): the requirement for pip"
	@echo "  TORCH_INDEX $(if $(TORCH_INDEX),$(TORCH_INDEX),(the registry)): where torch comes from, an index URL or a folder of wheels;"
	@echo "              without a GPU, the CPU index that pytorch.org names saves several GB"
	@echo "  ARGS        passed on, e.g. make test ARGS='-k workspace', make demo ARGS='--small'"

set-up: $(STAMP)  ## create the environment and install the pinned dependencies

# The constraints pin every dependency, so that a set-up next year installs the same as today.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@set -e; \
	works() { "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }; \
	python=; for p in "$(PYTHON)" python3.13 python3.12 python3.11; do if works "$$p"; then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "error: no Python 3.11 or newer: tried $(PYTHON), python3.13, python3.12, python3.11." >&2; \
	  echo "       Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "error: $$python cannot make environments (no venv or ensurepip)." >&2; \
	  echo "       On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	echo "set-up: $$("$$python" --version) -> $(VENV)"; \
	"$$python" -m venv "$(VENV)"
	@$(BIN)/python -m pip install --quiet $(TORCH_FLAGS) '$(TORCH)' || { \
	  echo "error: cannot install '$(TORCH)' for $$($(BIN)/python --version) from $(if $(TORCH_INDEX),$(TORCH_INDEX),the registry)." >&2; \
	  echo "       Name another source or release: make TORCH_INDEX=… TORCH='torch==…'" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet -e '.[all,dev]' -c $(CONSTRAINTS)
	@touch $@

demo: $(STAMP)  ## build, measure and query a version of the built-in marketplace
	$(BIN)/lightsage demo $(ARGS)

# Two processes take one file after the other. Each has one Spark session, and so one JVM, that all its tests share. The
# files keep their order, in which the longest come first, so that neither process waits for the other at the end.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test: $(STAMP)  ## run the fast tests
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(STAMP)  ## run all tests, including slow ones
	$(PYTEST) $(ARGS)

airflow: $(STAMP)  ## run the nightly DAG once in a real Airflow, in an environment of its own
	VENV="$(VENV)" .ci/airflow

lint: $(STAMP)  ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## list the benchmarks; make bench NAME=file ARGS='…' runs one
ifdef NAME
	$(BIN)/python benchmarks/$(NAME).py $(ARGS)
else
	@for f in $(sort $(wildcard benchmarks/[a-z]*.py)); do \
	  name=$$(basename $$f .py); \
	  printf '  make bench NAME=%-14s %s\n' "$$name" "$$(sed -n '1s/^"""\([^"]*\).*/\1/p' $$f)"; done
endif

clean:  ## remove the environment and the caches
	rm -rf "$(VENV)" .venv-airflow .mypy_cache .ruff_cache .pytest_cache .hypothesis
