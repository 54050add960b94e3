# Two commands: `make demo` shows what tinynovo does, `make test` whether it works. Both install
# into .venv first, where that has not been done.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test lint check docs figures card

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

# The figures take half an hour or more, and a machine that does nothing else. They read the labelled
# spectra of ../shared/data.
figures: install
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/refinement.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/card.py

card: install
	$(BIN)/python benchmarks/card.py
