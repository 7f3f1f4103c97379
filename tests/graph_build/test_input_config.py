"""Keys of the input section that contradict each other are refused in one line that says what to write."""

from typing import Any

import pytest

from graph_build.config import InputConfig


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"format": "json", "separator": ";"}, "separator is for CSV, but format is 'json'"),
        ({"format": "parquet", "header": False, "names": ["a"]}, "header is for CSV, but format is 'parquet'"),
        ({"header": False}, 'header = false needs the names of the columns: names = ["session_id"'),
        ({"names": ["a", "b", "a"]}, "names holds 'a' twice"),
        ({"separator": "\n"}, "separator holds a line end"),
        ({"separator": '"'}, 'is also a separator; set quote = ""'),
        ({"quote": ","}, "is also a separator"),
        ({"separator": ",", "quote": "", "decimal": ","}, "separator and decimal are both ','"),
        ({"columns": {"sequence": "#"}}, "set explode to the column of lists"),
        ({"columns": {"timestamp": []}}, "columns.timestamp is an empty list"),
        ({"columns": {"timestamp": ["d", "t"]}, "timestamp_unit": "s"}, "timestamp_unit is set; leave one of the two"),
        ({"timestamp_unit": "minutes"}, "'s', 'ms', 'us', 'ns', 'day' or 'order'"),
        ({"separator": ""}, "at least 1 character"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        InputConfig.model_validate({"events": section})
    assert message in str(caught.value)


def test_all_contradictions_of_a_section_are_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"names holds 'a' twice.*columns\.item_id is an empty list"):
        InputConfig.model_validate({"items": {"names": ["a", "a"], "columns": {"item_id": []}}})


def test_keys_that_say_the_defaults_contradict_nothing() -> None:
    keys = {"format": "json", "quote": '"', "header": True, "names": [], "decimal": "."}
    assert InputConfig.model_validate({"events": keys}).events.format == "json"
