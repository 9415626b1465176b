import pytest

from llava_st_hf.data.readers.tables import read_columns, read_csv, read_lines
from llava_st_hf.processing.media_llava_st import InputError


def test_rows_have_the_names_of_their_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfa, b ,c\r\n1," x, y",\r\n\r\n2\r\n')
    assert read_columns(path) == ["a", "b", "c"]
    assert read_csv(path, ("a", "c")) == [{"a": "1", "b": "x, y"}, {"a": "2"}]


@pytest.mark.parametrize(
    "content",
    [
        "video;span\r\na.mp4;1-2,5\r\n".encode("utf-8-sig"),  # of a spreadsheet in a country with decimal commas
        "video\tspan\r\na.mp4\t1-2,5\r\n".encode("utf-16"),  # its "Unicode text"
        b'video,span\na.mp4,"1-2,5"\n',
    ],
)
def test_spreadsheets_write_other_delimiters(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert read_columns(path) == ["video", "span"]
    assert read_csv(path) == [{"video": "a.mp4", "span": "1-2,5"}]


def test_lines_end_at_their_ends_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\u2028b \r\n\r\nc\x85d".encode())
    assert read_lines(path) == [(1, "a\u2028b"), (3, "c\x85d")]
    path.write_bytes(b"\xff\xff")
    with pytest.raises(InputError, match="Save it as UTF-8"):
        read_lines(path)


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
