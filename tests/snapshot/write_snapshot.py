"""Rewrite the stored snapshot: `python tests/snapshot/write_snapshot.py`.

With `--dump DIR` the stored files stay, and all values go to DIR, a file for each section and kind: the values of two
commits can then be compared with `diff -r`.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from snapshot.contents import Section, hash_value, list_sections, write_canonical

FOLDER = Path(__file__).resolve().parent
LENGTH = 10  # hashes in a line
NUM_FULL = 2  # items of a section whose values are stored as they are, beside their hashes
LONG_KINDS = ("malformed", "constrained_answer", "coco")  # only of the first of them, and only when they are short
MAX_LENGTH = 5000  # of such a value, in characters


def list_kinds(section: Section) -> list[str]:
    """Return the kinds of values of a section, in their order."""
    return list(dict.fromkeys(kind for values in section.values() for kind in values))


def store(name: str, section: Section) -> None:
    """Write the file of a section: a hash of each value by kind, and the values of the first items."""
    kinds = list_kinds(section)
    hashes = []
    for kind in kinds:
        row = [hash_value(values[kind]) if kind in values else "-" for values in section.values()]
        while row[-1] == "-":  # most items lack some kinds
            row.pop()
        lines = [json.dumps(" ".join(row[first : first + LENGTH])) for first in range(0, len(row), LENGTH)]
        hashes.append(f"  {json.dumps(kind)}: [\n   " + ",\n   ".join(lines) + "\n  ]")
    examples = []
    items = [item for item in section if item != "all"][:NUM_FULL]
    for item in ["all", *items] if "all" in section else items:
        kept = [kind for kind in section[item] if item != items[-1] or kind not in LONG_KINDS]
        written = {kind: write_canonical(section[item][kind]) for kind in kept}
        short = {kind: MAX_LENGTH // 2 if kind in LONG_KINDS else MAX_LENGTH for kind in kept}
        lines = [f"   {json.dumps(kind)}: {value}" for kind, value in written.items() if len(value) <= short[kind]]
        examples.append(f"  {json.dumps(item)}: {{\n" + ",\n".join(lines) + "\n  }")
    parts = [
        f' "items": {json.dumps(list(section), separators=(",", ":"))}',
        ' "hashes": {\n' + ",\n".join(hashes) + "\n }",
        ' "examples": {\n' + ",\n".join(examples) + "\n }",
    ]
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def dump(name: str, section: Section, folder: Path) -> None:
    """Write all values of a section, a file for each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in list_kinds(section):
        values = {item: values[kind] for item, values in section.items() if kind in values}
        text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / f"{name}.{kind.replace(' ', '_')}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write all values here instead")
    parser.add_argument("--only", nargs="+", metavar="SECTION", help="only these sections")
    arguments = parser.parse_args()
    for name, (compute, needed) in list_sections().items():
        if arguments.only and name not in arguments.only:
            continue
        if needed is not None and not needed.is_dir():
            sys.stderr.write(f"{name} is left as it is: {needed} is not here\n")
            continue
        section = compute()
        if arguments.dump:
            dump(name, section, arguments.dump)
        else:
            store(name, section)


if __name__ == "__main__":
    main()
