# `make test` checks everything; `make demo` is the main job; `make reproduce` repeats the literature; `make docs` builds
# the site; `make bench` measures. All create .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
DEMO_ARGS ?=
REPRODUCE_ARGS ?=
BENCH_ARGS ?=

.PHONY: demo test lint types tests reproduce docs bench clean

demo: $(STAMP)
	$(BIN)/python experiments/penalty_vs_performance.py $(DEMO_ARGS)

test: lint types tests

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

tests: $(STAMP)
	$(BIN)/pytest -n 2 -q

reproduce: $(STAMP)
	$(BIN)/python experiments/reproduce.py $(REPRODUCE_ARGS)

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'Open out/site/index.html; to search in it: $(BIN)/python -m http.server --directory out/site'

bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("impactrl needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) out build *.egg-info
