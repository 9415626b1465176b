from llava_st_hf.utils.tables import format_table

ROWS = [("kitchen", "all", 12000, 0.5, None), ("a", "10 of 20", 3, 2e-05, "12.5%")]


def test_numbers_are_at_the_right():
    assert format_table(("source", "chosen", "records", "rate", "share"), ROWS).splitlines() == [
        "source   chosen    records   rate  share",
        "kitchen  all        12,000    0.5",
        "a        10 of 20        3  2e-05  12.5%",
    ]


def test_markdown():
    assert format_table(("source", "records"), [("a", 3)], markdown=True).splitlines() == [
        "| source | records |",
        "| ------ | ------: |",
        "| a      |       3 |",
    ]


def test_a_column_that_nobody_has_a_cell_in_is_left_out():
    rows = [("a", None, 3, None), ("b", None, None, None)]
    assert format_table(("name", "base", "items", "note"), rows).splitlines() == ["name  items", "a         3", "b"]
    assert format_table(("name", "note"), [("a", "")]).split() == ["name", "note", "a"]


def test_a_table_without_rows_is_its_header():
    assert format_table(("a", "b"), []) == "a  b"


def test_signs_of_numbers_are_no_markup():
    assert format_table(("change",), [("+0.1",), ("-0.1",), ("- x",)], markdown=True).splitlines()[2:] == [
        "| +0.1   |",
        "| -0.1   |",
        "| \\- x   |",
    ]
