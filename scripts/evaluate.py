# /// script
# requires-python = ">=3.11"
# dependencies = ["llava-st-hf[data]"]
# ///
"""Evaluates a model and sends the results to the Hub: for a job, whose disk is gone when it ends.

uv run scripts/evaluate.py me/llava-st-mine --num-clips 100
hf jobs uv run --flavor a10g-small --secrets HF_TOKEN scripts/evaluate.py me/llava-st-mine --push-to me/my-results

Further options are those of `llava-st evaluate`.
"""

import argparse
import sys

from llava_st_cli import main

OUTPUT = "results"


def evaluate(arguments: list[str]) -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="ID_OR_DIR")
    parser.add_argument("--benchmark", default="st-shapes")
    parser.add_argument("--push-to", metavar="ORG/NAME", help="repository of the results; private")
    options, more = parser.parse_known_args(arguments)
    command = ["evaluate", options.benchmark, "--model", options.model, "--output-dir", OUTPUT, *more]
    return main(command) or (main(["push", OUTPUT, options.push_to]) if options.push_to else 0)


if __name__ == "__main__":
    sys.exit(evaluate(sys.argv[1:]))
