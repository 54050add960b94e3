# Two commands: `make demo` shows what tinynovo does, `make test` whether it works. Both install
# into .venv first, where that has not been done.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test lint check docs figures card experiments method realism

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into .venv; the first time takes some minutes."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,report]'
	touch $@

demo: install
	$(BIN)/python examples/demo.py

test: install
	$(BIN)/pytest -q

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test

docs: install
	$(BIN)/python docs/cli.py

# The figures take an hour, and a machine that does nothing else. They read the labelled spectra of
# ../shared/data, and want Comet on the path.
figures: install
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/effort.py
	$(BIN)/python benchmarks/refinement.py
	$(BIN)/python benchmarks/confidence.py
	$(BIN)/python benchmarks/hypotheses.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/phospho.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/reading.py
	$(MAKE) card

card: install
	$(BIN)/python benchmarks/card.py
	$(BIN)/python benchmarks/trust.py
	$(BIN)/python benchmarks/scaling.py

# The experiments behind docs/method.md: hours on a laptop. What is finished is kept in runs/.
experiments: install
	$(BIN)/python benchmarks/arms.py
	$(BIN)/python benchmarks/grid.py
	$(BIN)/python benchmarks/method.py

# How far rendered training spectra are from real ones: two minutes. Reads the data of ../shared/data.
realism: install
	$(BIN)/python benchmarks/realism.py

method: install
	$(BIN)/python benchmarks/method.py
