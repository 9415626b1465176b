# The newcomer's door: `make demo` and `make test` do everything on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow test-page style format bench docs tiny wheel clean

demo: $(VENV)/.demo  ## ground a query in a clip, write answer.json and an annotated clip, print both paths
	$(BIN)/llava-st demo --output-dir demo_output

# Each process computes on one thread; for more cores: make test TEST_PROCESSES=8.
TEST_PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test: style  ## pass the style checks and the tests
	$(PYTEST)

test-slow: $(INSTALLED)  ## pass the tests that take minutes
	$(PYTEST) -m slow

# Gradio does not go with the Pillow of constraints.txt, so the page has an environment of its own.
test-page:  ## pass the tests of the page in a browser (needs chromium)
	test -d .venv-page || $(PYTHON) -m venv .venv-page
	grep -v "^pillow" constraints.txt > .venv-page/constraints.txt
	.venv-page/bin/pip install --quiet --constraint .venv-page/constraints.txt torch==2.13.0
	.venv-page/bin/pip install --quiet --constraint .venv-page/constraints.txt -e ".[page,test]" playwright
	OMP_NUM_THREADS=1 .venv-page/bin/python -m pytest -m slow tests/page

style: $(INSTALLED)  ## check style and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell src tests benchmarks recipes docs AGENTS.md README.md CONTRIBUTING.md CHANGELOG.md

format: $(INSTALLED)  ## rewrite the code in house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)  ## build the site from docs/ into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(INSTALLED)  ## print cost as ratios within one run
	$(BIN)/pip install --quiet --constraint constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/command_line_startup.py
	$(BIN)/python benchmarks/packer_and_lape.py
	$(BIN)/python benchmarks/feature_memory.py
	$(BIN)/python benchmarks/answer_grammar.py
	$(BIN)/python benchmarks/loss_memory.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/many_questions.py
	$(BIN)/python benchmarks/shapes_rendering.py
	$(BIN)/python benchmarks/answer_parsing.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/video_reading.py

# bfloat16 pays where the CPU multiplies in it fast: make tiny BF16=false for where it does not.
BF16 ?= true
STAGE := $(BIN)/llava-st train recipes/tiny

tiny: $(INSTALLED)  ## train the tiny model on ST-Shapes and evaluate it; goes on at the step or stage where it was stopped
	for step in start events lookups; do \
		test -f outputs/tiny/$$step/model.safetensors \
			|| $(BIN)/python recipes/tiny/pretrain.py $$step --bf16 $(BF16) || exit 1; \
	done
	$(STAGE)/stage1/sft.yaml --bf16 $(BF16) --resume_from_checkpoint true
	$(STAGE)/stage2/sft.yaml --bf16 $(BF16) --resume_from_checkpoint true
	$(STAGE)/stage3/sft.yaml --bf16 $(BF16) --resume_from_checkpoint true
	$(STAGE)/stage3/sft_continued.yaml --bf16 $(BF16) --resume_from_checkpoint true
	$(BIN)/llava-st evaluate st-shapes --model outputs/tiny/stage3_continued --output-dir outputs/tiny/stage3_continued/evaluation

wheel: $(INSTALLED)  ## build dist/*.whl
	$(BIN)/python -m build --wheel

# What the demo needs: the package alone.
$(VENV)/.demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@echo "Installing torch, the largest part; on Linux its CPU build is smaller: see pytorch.org"
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt -e .
	touch $@

# What the tests need in addition.
$(INSTALLED): $(VENV)/.demo
	$(BIN)/pip install --quiet --constraint constraints.txt -e ".[test,quality]"
	touch $@

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist demo_output .pytest_cache .ruff_cache
