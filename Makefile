# Everything here works on a fresh Debian 12 with python3.11, pip and make: no compiler, no venv module's pip.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: help demo check test soak bench simulate clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(RUN)/python install --quiet -e .
	@touch $@

$(VENV)/.test: pyproject.toml
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip --python $(RUN)/python install --quiet -e '.[test]'
	@touch $@ $(VENV)/.base

$(VENV)/.fuzz: $(VENV)/.test
	$(PYTHON) -m pip --python $(RUN)/python install --quiet -e '.[fuzz]'
	@touch $@

demo: $(VENV)/.base  ## the whole way once, on a throw-away network of four nodes
	$(RUN)/chartchain demo

check: $(VENV)/.test  ## format, lint, types and the fast tests; under a minute
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/pytest -n 2 -m 'not slow and not soak' --hypothesis-profile check

test: $(VENV)/.test  ## every test; under five minutes
	$(RUN)/pytest -n 2 -m 'not soak'

soak: $(VENV)/.fuzz  ## the long runs: 100,000 simulated seeds, every fault on real processes; goes on where it ended
	nice -n 10 $(RUN)/chartchain simulate --seeds 100000 --resume soak.json --json soak-report.json
	nice -n 10 $(RUN)/python -m tests.soak soak

bench: $(VENV)/.base  ## throughput, latency and memory of four daemons on this machine
	$(RUN)/chartchain bench run

SEED ?= 1
simulate: $(VENV)/.base  ## replay one seed of the simulator: make simulate SEED=42
	$(RUN)/chartchain simulate --seed $(SEED)

clean:  ## forget the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
