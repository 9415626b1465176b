# The newcomer's door: `make demo` and `make test` do everything on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test style format bench wheel clean

demo: $(INSTALLED)  ## ground a query in a clip, write answer.json and an annotated clip, print both paths
	$(BIN)/llava-st demo --output-dir demo_output

test: style  ## pass the style checks and the tests
	$(BIN)/python -m pytest

style: $(INSTALLED)  ## check style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell src tests benchmarks README.md CONTRIBUTING.md CHANGELOG.md

format: $(INSTALLED)  ## rewrite the code in house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## print cost as ratios within one run
	$(BIN)/pip install --quiet --constraint constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/packer_and_lape.py
	$(BIN)/python benchmarks/loss_memory.py
	$(BIN)/python benchmarks/video_reading.py

wheel: $(INSTALLED)  ## build dist/*.whl
	$(BIN)/python -m build --wheel

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt -e ".[test,quality]"
	touch $@

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist demo_output .pytest_cache .ruff_cache
