"""A whole notation beside the one in use."""

import re

import numpy as np

from llava_st_hf.processing.notation_llava_st import AXIS_UNITS, Lexeme, Notation


class JsonNotation(Notation):
    """
    `{"time": [0.1, 0.5]}`, `{"box": [0.1, 0.2, 0.5, 0.6]}`, a tube `{"boxes": {"0.1": [...], ...}}`; or tokens.

    A span and its tube may also be one object. A bare number is a fraction, alone or with a unit it has its axis:
    `"t=0.1"`, `"t=3.5s"`, `"x=120px"`.
    """

    _NUMBER = r"-?\d{1,40}(?:\.\d{1,40})?"
    _LEXEME = re.compile(
        r'(?P<span>\{"time": \[)|(?P<tube>(?:\{|, )"boxes": \{)|(?P<box>\{"box": \[|(?<=[>"]): \[)|'
        rf'(?P<close>\]\}}?|\}}+)|<(?P<token>[txy]_\d{{1,9}})>|"(?P<named>[txy]={_NUMBER})(?P<unit>s|px)?"|'
        rf'"(?P<key>{_NUMBER})"(?=:)|(?P<number>{_NUMBER})'
    )

    def lex(self, text, start=0, end=None):
        lexemes, opened, axes = [], [], iter("")
        for match in self._LEXEME.finditer(text, start, len(text) if end is None else end):
            form, kind, value, unit = match.lastgroup, None, None, ""
            if form in ("span", "box", "tube"):
                opened.append(form)
                kind, axes = "[" if form == "box" else "{", iter({"span": "tt", "box": "xyxy", "tube": "t"}[form])
            elif form == "close":
                kind = opened and ("]" if opened.pop() == "box" else "}")
            elif form in ("token", "named", "unit"):
                kind, value = re.split("[_=]", match["token"] or match["named"])
                unit = {"token": "bin", "named": "fraction", "unit": AXIS_UNITS[kind][1]}[form]
                next(axes, None)
            elif opened:  # elsewhere a number is a word
                kind, value, unit = "t" if form == "key" else next(axes, None), match[form], "fraction"
            if kind:
                number = value if value is None else int(value) if unit == "bin" else float(value)
                lexemes.append(Lexeme(kind, number, unit, *match.span(), match[0]))
        return lexemes

    def write_coordinate(self, axis, value, unit="fraction"):
        suffix = "" if unit == "fraction" else AXIS_UNITS[axis][0]
        return f'"{axis}={np.format_float_positional(float(value), trim="0")}{suffix}"'

    def write_group(self, axes, coordinates):
        if axes == "t":
            return coordinates[0]
        bare = [re.sub(rf'"[txy]=({self._NUMBER})"', r"\1", coordinate) for coordinate in coordinates]
        return f'{{"{"time" if axes == "tt" else "box"}": [{", ".join(bare)}]}}'

    def write_entries(self, entries):
        written = (f"{time.replace('t=', '')}{box.removeprefix(self._BOX)[:-1]}" for time, box in entries)
        return '{"boxes": {' + ", ".join(written) + "}}"

    _BOX = '{"box"'

    def find_open_group(self, text):
        opened = []
        for lexeme in self.lex(text):
            if lexeme.kind in "{[":
                opened.append(lexeme.start)
            elif lexeme.kind in "}]":
                opened.pop()
        return opened[0] if opened else None
