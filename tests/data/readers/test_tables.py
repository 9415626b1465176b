import pytest

from llava_st_hf.data.readers.tables import read_columns, read_csv
from llava_st_hf.processing.media_llava_st import InputError


def test_rows_have_the_names_of_their_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b ,c\r\n1," x, y",\r\n\r\n2\r\n')
    assert read_columns(path) == ["a", "b", "c"]
    assert read_csv(path, ("a", "c")) == [{"a": "1", "b": "x, y"}, {"a": "2"}]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"a,b\n1,2,3\n", "line 2: there are more cells than columns"),
        (b"b\n1\n", "has no column 'a': its header is b"),
        (b"", "has no column 'a'"),
        (b"a\n\xff\n", "cannot be read as a CSV file"),
        (b'a\n"1', "cannot be read as a CSV file"),
    ],
)
def test_says_what_is_wrong(tmp_path, content, found):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=found):
        read_csv(path, ("a",))
    with pytest.raises(InputError, match="cannot be read"):
        read_csv(tmp_path / "lost.csv")
