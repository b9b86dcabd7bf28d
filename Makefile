# Every verb is short; what it does is in the library.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install study test check jupyter bench policy clean

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

test: .venv/.installed-dev
	$(BIN)/python -m pytest --benchmark-skip

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy bestofl_lib
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --benchmark-skip

jupyter: install
	$(BIN)/jupyter lab notebooks

bench: .venv/.installed-dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

policy: install
	$(BIN)/python data/lab/make_policy.py

clean:
	rm -rf data/runs reports/*/index.html .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
