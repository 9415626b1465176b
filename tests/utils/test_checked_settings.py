from dataclasses import dataclass, replace

import pytest
from huggingface_hub.dataclasses import validated_field
from huggingface_hub.errors import StrictDataclassFieldValidationError

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.utils.checked_settings import check_keys, checked, input_errors, read_yaml


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
    shapes: dict[str, int] | str | None = None

    def __post_init__(self):
        if self.required and self.source is None:
            raise InputError("required is True, but source is not given.")


def test_values_that_fit():
    settings = Settings(weight=2, num_frames=8, source="a", shapes={"size": 3})
    assert (settings.weight, type(settings.weight)) == (2.0, float)
    assert replace(settings, num_frames=None) == Settings(2.0, None, "a", False, {"size": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight": "a"}, "weight is 'a': give a number."),
        ({"weight": True}, "weight is True: give a number."),
        ({"weight": -1}, "weight is -1: give a number above 0."),
        ({"num_frames": 1.5}, "num_frames is 1.5: give a whole number."),
        ({"num_frames": False}, "num_frames is False: give a whole number."),
        ({"source": 2024}, "source is 2024: give a text (in quotes, if it looks like a number)."),
        ({"source": "unknown"}, "source 'unknown' is not known."),
        ({"required": "yes"}, "required is 'yes': give true or false."),
        ({"required": True}, "required is True, but source is not given."),
        ({"shapes": 3}, "shapes is 3: give keys with values or a text (in quotes, if it looks like a number)."),
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
    with pytest.raises(InputError, match=r"^mine as it is$"), input_errors("other: {}"):
        raise InputError("mine\nas it is")


def test_the_parser_of_recipes_leaves_the_types():
    """It takes `None` out of the types of what is left out on the command line."""
    from transformers import HfArgumentParser

    @checked
    @dataclass
    class Arguments:
        weight: float | None = None
        source: str | None = None

    (arguments,) = HfArgumentParser([Arguments]).parse_args_into_dataclasses(["--weight", "3"])
    assert arguments == Arguments(3.0, None)


def test_keys_and_files(tmp_path):
    check_keys({"seed": 1}, ["seed", "weight"], "the mixture")
    for content, message in (
        (None, "the mixture is empty: give keys"),
        ([1], r"the mixture is \[1\]: give keys"),
        ({"sed": 1}, "unknown key 'sed': did you mean 'seed'\\? The keys are seed, weight"),
    ):
        with pytest.raises(InputError, match=message):
            check_keys(content, ["seed", "weight"], "the mixture")
    (tmp_path / "a.yaml").write_text("\ufeffseed: 1\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml", "mixture") == {"seed": 1}
    for content, message in (
        ("seed: 1\nseed: 2", "the key 'seed' is there twice"),
        ("a: b: c", "is no YAML"),
        ("a: \xff", "is no YAML"),
    ):
        (tmp_path / "a.yaml").write_bytes(content.encode("latin-1"))
        with pytest.raises(InputError, match=message) as error:
            read_yaml(tmp_path / "a.yaml", "mixture")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"the mixture .*none\.yaml cannot be read"):
        read_yaml(tmp_path / "none.yaml", "mixture")
