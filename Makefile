# make install | demo | test | test-random | lint | test-faults | docs | bench | bench-full.  PYTHON=python3.12 make install chooses the interpreter.
PYTHON ?= python3
VENV := .venv
PART ?= 1/1
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Each test that starts a command would compile the package again if the environment forbade to keep what is compiled
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test test-random lint test-faults docs bench bench-full clean

install: $(INSTALLED)

# Everything pinned by requirements.lock; then DeepSpeed's operators, built once into the environment. Modules are
# compiled on all cores, as pip would on one; some packages ship templates that do not compile.
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 13) else "rewarm needs Python 3.11 or 3.12 (PYTHON=python3.12 make install)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m rewarm.stages.core.operators
	touch $(INSTALLED)

# make demo ARGS="--set schedule.kind=cosine"
demo: install
	$(BIN)/rewarm demo --dir demo $(ARGS)

test: install
	$(BIN)/python -m pytest -m "not faults and not gpu" -n 3 --dist loadgroup --no-loadscope-reorder --durations=15

# The property tests on examples that no run has seen
test-random: install
	$(BIN)/python -m pytest -m "hypothesis and not faults" --hypothesis-profile=random --hypothesis-seed=random

# make test-faults PART=2/4: the second of four parts, each under an hour on two cores; without PART, all of it
test-faults: install
	$(BIN)/python -m pytest -m "faults" --durations-path tests/fault_durations.json --splits $(lastword $(subst /, ,$(PART))) --group $(firstword $(subst /, ,$(PART)))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The page of all settings, from the settings objects
docs: install
	$(BIN)/rewarm settings --markdown > docs/settings.md

bench: install
	$(BIN)/python benchmarks/train_throughput.py

# make bench-full PEER=peer/bin/python: all figures with a goal or a peer, one script after the other, hours on two idle
# cores; PEER is an interpreter with datatrove, trafilatura and spacy. What has finished on this commit is not run again.
bench-full: install
	$(BIN)/python benchmarks/side_by_side.py $(if $(PEER),--peer-python $(PEER)) $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
