import json

import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.published_layout_llava_st import convert_published_tokenizer
from llava_st_hf.processing.tokenization_llava_st import read_coordinate_vocabulary


def make_tokenizer(vocabulary: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    letters = {chr(code): index for index, code in enumerate(range(33, 127))}
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(list(vocabulary))
    return tokenizer


def find_tokenizers(parity_dir):
    found = sorted(path.parent for path in parity_dir.glob("*/*/tokenizer/tokenizer.json"))
    assert found, "no tokenizer among the recorded data"
    return found


def test_published_tokenizer_keeps_every_id(parity_dir):
    for folder in find_tokenizers(parity_dir):
        special = json.loads((folder.parent / "special_tokens.json").read_text())
        old = Qwen2Tokenizer.from_pretrained(folder)
        names = {"<im_patch>": "<image>", "<slow_vid_start>": "<video>"}
        names = {name: renamed for name, renamed in names.items() if renamed not in old.get_vocab()}
        new = convert_published_tokenizer(folder)
        assert len(old) == len(new) == special["tokenizer_len"]
        assert new.model_max_length == old.model_max_length
        assert new.special_tokens_map == old.special_tokens_map
        for name, token_id in old.get_vocab().items():
            converted = new.convert_ids_to_tokens(token_id)
            axis, _, number = name.strip("<>").partition("-")
            if number.isdecimal():
                axis = {"TEMP": "t", "HEIGHT": "y", "WIDTH": "x"}[axis]
                assert converted == f"<{axis}_{int(number)}>"
                assert not new.added_tokens_decoder[token_id].special
            else:
                assert converted == names.get(name, name)
        for axis, name in {"t": "TEMP", "y": "HEIGHT", "x": "WIDTH"}.items():
            assert new.convert_tokens_to_ids(f"<{axis}_0>") == special["coordinate_base"][name]


def test_published_tokenizer_survives_saving(parity_dir, tmp_path):
    new = convert_published_tokenizer(find_tokenizers(parity_dir)[0])
    new.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "a <t_1> [<x_2><y_3>]<image><video><WIDTH-INPUT>\n\n"
    assert loaded.get_vocab() == new.get_vocab()
    assert loaded(text).input_ids == new(text).input_ids
    assert "<t_1> [<x_2><y_3>]" in loaded.decode(loaded(text).input_ids, skip_special_tokens=True)


def test_published_tokenizer_that_knows_image_keeps_it(tmp_path):
    published = ["<image>", "<im_patch>", "<slow_vid_start>", "<WIDTH-INPUT>"]
    published += [f"<{axis}-{index:03d}>" for axis in ("TEMP", "HEIGHT", "WIDTH") for index in range(2)]
    tokenizer = make_tokenizer(tuple(published))
    tokenizer.save_pretrained(tmp_path)
    new = convert_published_tokenizer(tmp_path)
    for name in ("<image>", "<im_patch>"):
        assert new.convert_tokens_to_ids(name) == tokenizer.convert_tokens_to_ids(name)
    assert new.convert_tokens_to_ids("<video>") == tokenizer.convert_tokens_to_ids("<slow_vid_start>")
    assert read_coordinate_vocabulary(new, 2, 2).offset == new.convert_tokens_to_ids("<t_0>")


def test_refuses_another_tokenizer(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="TEMP-000"):
        convert_published_tokenizer(tmp_path)
