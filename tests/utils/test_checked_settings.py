from dataclasses import dataclass, replace
from typing import Literal

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.utils.checked_settings import checked, input_errors, validated_field


def check_positive(value):
    if value <= 0:
        raise ValueError("give a number above 0")


def check_known(value):
    if value == "unknown":
        raise InputError("source 'unknown' is not known.")


@checked
@dataclass
class Settings:
    weight: float = validated_field(check_positive, default=1.0)
    num_frames: int | None = None
    source: str | None = validated_field(check_known, default=None)
    required: bool = False
    difficulty: Literal["easy", "hard"] = "easy"
    sizes: tuple[int, ...] = ()

    def __post_init__(self):
        if self.required and self.source is None:
            raise InputError("required is True, but source is not given.")


def test_values_that_fit():
    settings = Settings(weight=2, num_frames=8, source="a", difficulty="hard", sizes=(3,))
    assert (settings.weight, type(settings.weight)) == (2.0, float)
    assert replace(settings, num_frames=None) == Settings(2.0, None, "a", False, "hard", (3,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": "a"}, "weight is 'a': give a number."),
        ({"weight": True}, "weight is True: give a number."),
        ({"weight": float("nan")}, "weight is nan: give a number."),
        ({"weight": -1}, "weight is -1: give a number above 0."),
        ({"num_frames": 1.5}, "num_frames is 1.5: give a whole number."),
        ({"num_frames": False}, "num_frames is False: give a whole number."),
        ({"source": 2024}, "source is 2024: give a text (in quotes, if it looks like a number)."),
        ({"source": "unknown"}, "source 'unknown' is not known."),
        ({"required": "yes"}, "required is 'yes': give true or false."),
        ({"required": True}, "required is True, but source is not given."),
        ({"difficulty": "odd"}, "difficulty is 'odd': choose one of easy, hard."),
        ({"sizes": ("a",)}, "sizes is ('a',): give a list."),
        ({"sizes": 3}, "sizes is 3: give a list."),
        ({"source": ["a\n" * 10**5]}, None),
    ],
)
def test_values_that_do_not_fit(values, message):
    with pytest.raises(InputError) as error:
        Settings(**values)
    assert str(error.value) == message or message is None
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_assignments_are_checked_too():
    settings = Settings()
    with pytest.raises(InputError, match="num_frames is 'x'"):
        settings.num_frames = "x"


def test_errors_of_one_line():
    with pytest.raises(InputError, match=r"^config: first \(fetch it again\)$"), input_errors("config: {}"):
        raise ValueError("first (fetch it again)\nsecond")
    with pytest.raises(InputError, match=r"^FileNotFoundError$"), input_errors():
        raise FileNotFoundError
    with pytest.raises(InputError, match=r"^size is 3$"), input_errors():
        try:
            raise ValueError("size is\n3")
        except ValueError as error:
            raise StrictDataclassFieldValidationError("size", error) from error
    with pytest.raises(InputError, match=r"^mine\nas it is$"), input_errors("other: {}"):
        raise InputError("mine\nas it is")
