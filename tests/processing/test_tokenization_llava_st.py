import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary
from llava_st_hf.processing.tokenization_llava_st import (
    add_coordinate_tokens,
    add_media_tokens,
    read_coordinate_vocabulary,
)


def make_tokenizer(vocabulary: tuple[str, ...] = ()) -> Qwen2Tokenizer:
    letters = {chr(code): index for index, code in enumerate(range(33, 127))}
    tokenizer = Qwen2Tokenizer(vocab=letters, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(list(vocabulary))
    return tokenizer


def test_adds_consecutive_plain_tokens(tmp_path):
    tokenizer = make_tokenizer()
    size = len(tokenizer)
    add_media_tokens(tokenizer)
    offset = add_coordinate_tokens(tokenizer, 7, 5).offset
    assert offset == size + 2 and len(tokenizer) == size + 2 + 17
    assert tokenizer.convert_ids_to_tokens([offset, offset + 7, offset + 12]) == ["<t_0>", "<y_0>", "<x_0>"]
    ids = tokenizer("a<t_3>b<x_4>").input_ids
    assert ids[1] == offset + 3 and ids[3] == offset + 16
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<t_3>b<x_4>"
    assert add_coordinate_tokens(tokenizer, 7, 5).offset == offset  # nothing is added twice
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("a<t_3>b<x_4>").input_ids == ids
    assert loaded.decode(ids, skip_special_tokens=True) == "a<t_3>b<x_4>"
    assert read_coordinate_vocabulary(loaded, 7, 5) == CoordinateVocabulary(7, 5, offset)


def test_refuses_scattered_coordinate_tokens():
    with pytest.raises(InputError, match="consecutive"):
        add_coordinate_tokens(make_tokenizer(("<x_2>", "something")), 4, 4)


def test_refuses_missing_coordinate_tokens():
    with pytest.raises(InputError, match="add_coordinate_tokens"):
        read_coordinate_vocabulary(make_tokenizer(("<t_0>", "<t_1>")), 2, 2)
