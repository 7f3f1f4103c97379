"""An ingest loses no event of a stored day: late rows are added, parts of a day are refused, refusals are reported."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig
from graph_build.days.days_file import read_days_file
from graph_build.days.store import stored_days
from graph_build.errors import GraphInputError
from tests.graph_build.conftest import at, event, sorted_tables
from tests.graph_build.days.conftest import date_of, day_log


def events_of(root: str) -> dict[int, int]:
    """Return the number of stored item events of each day, by the day's number."""
    days = read_days_file(root).days
    return {n: days[date_of(n)].events for n in range(9) if date_of(n) in days}


def refused_rows(root: str) -> list[dict[str, Any]]:
    """Return the refused rows that the store keeps."""
    return [row for part in sorted(Path(root).glob("*/quarantine/day=*")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.slow
def test_late_events_are_added_to_their_day_once_and_what_cannot_be_added_is_refused_by_name(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    first, second = day_log(0, sessions=8), day_log(1, sessions=8)
    late = [event("late", at(1439, day=0), "view", "i1"), event("late", at(1439.5, day=0), "view", "i2")]
    store(first, name=str(date_of(0)))
    before = events_of(root)[0]
    result = store([*late, *second], name=str(date_of(1)))
    assert events_of(root) == {0: before + 2, 1: result.days[date_of(1)].events}
    assert result.lines[0] == f"{date_of(0)}: {before + 2} events stored, 2 of them came late"
    assert result.refused == {}
    build_graphs(spark, GraphInputs(days=root), str(tmp_path / "night"), GraphConfig())
    _, from_log = built([*first, *late, *second])
    assert sorted_tables(tmp_path / "night") == sorted_tables(from_log)
    # The rows are sent again, with one more event of a stored session: nothing doubles, and this event is refused.
    more = event("0-3", at(1439, day=0), "view", "i3")
    shown = event("late", at(1439, day=0), "impression", "i9")
    result = store([*late, more, shown, *second], name=str(date_of(1)))
    assert result.late_impressions == 1
    assert "late impressions, which are not counted: 1" in result.lines
    assert events_of(root)[0] == before + 2
    assert result.already_stored == 1
    assert result.refused == {"session_stored": 1}
    assert "session_stored: 1" in " ".join(result.lines)
    (row,) = refused_rows(root)
    assert json.loads(row["row"])["session_id"] == "0-3"
    with pytest.raises(GraphInputError, match=rf"session_stored.*--day {date_of(0)}"):
        store([more], name="more")
    assert len(refused_rows(root)) == 1


@pytest.mark.slow
def test_a_part_of_a_day_does_not_replace_it_and_stray_rows_are_completed_by_the_days_own_log(
    store: Callable[..., Any], root: str
) -> None:
    log, early = day_log(0, sessions=8), [event("early", at(1, day=1), "view", "i1")]
    store([*log, *early], name=str(date_of(0)))
    whole = events_of(root)[0]
    assert events_of(root)[1] == 1
    for part in ({"name": str(date_of(0))}, {"days": [date_of(0)]}):
        with pytest.raises(GraphInputError, match=f"of {date_of(0)}, which is stored with {whole} events"):
            store(log[:20], **part)
    completed = store(day_log(1, sessions=8), name=str(date_of(1)))
    assert events_of(root) == {0: whole, 1: completed.days[date_of(1)].events}
    own = store(day_log(1, sessions=8), 1).days[date_of(1)].events
    assert completed.days[date_of(1)].events == own + 1
    assert store(log[:20], days=[date_of(0)], force=True).days[date_of(0)].events < whole


BAD = [
    event("s", at(5, day=0), "teleport", "a", user_id="u1"),
    event(None, at(6, day=1), "view", "a"),
    event("s", None, "view", "a"),
]


def test_refused_rows_lie_beside_their_day_and_are_counted_with_it(store: Callable[..., Any], root: str) -> None:
    result = store([*day_log(0), *day_log(1), *BAD])
    assert result.refused == {"type_unknown": 1, "session_missing": 1, "time_invalid": 1}
    days = read_days_file(root).days
    assert days[date_of(0)].refused == {"type_unknown": 1}
    assert days[date_of(1)].refused == {"session_missing": 1, "time_invalid": 1}
    assert stored_days(root, GraphConfig()).refused == result.refused
    assert {row["reason"] for row in refused_rows(root)} == set(result.refused)
    assert not any("u1" in row["row"] for row in refused_rows(root))


@pytest.mark.slow
def test_refused_rows_go_with_their_day_or_at_an_age_and_their_counts_stay(
    store: Callable[..., Any], root: str
) -> None:
    store([*day_log(0), *day_log(1), *BAD])
    store(day_log(1), 1)
    assert [row["reason"] for row in refused_rows(root)] == ["type_unknown"]
    assert stored_days(root, GraphConfig()).refused == {"type_unknown": 1}
    # Refused rows are deleted at a certain age; their counts stay.
    store(day_log(2), 2, quarantine_days=0)
    assert refused_rows(root) == []
    assert stored_days(root, GraphConfig()).refused == {"type_unknown": 1}


@pytest.mark.slow
def test_folders_that_nothing_names_are_swept_and_a_missing_day_is_named(store: Callable[..., Any], root: str) -> None:
    store([*day_log(0), *day_log(1)])
    named = {str(path) for path in Path(root).rglob("*")}
    orphans = [Path(root) / "20260101T000000-01234567/2026-03-02/sessions", next(Path(root).glob("2*")) / "all"]
    for orphan in orphans:
        orphan.mkdir(parents=True)
    (Path(root) / "notes").mkdir()
    store(day_log(2), 2)
    assert not any(orphan.exists() for orphan in orphans)
    assert named | {str(Path(root) / "notes")} <= {str(path) for path in Path(root).rglob("*")}
    day = read_days_file(root).days[date_of(1)]
    for path in sorted((Path(root) / day.folder).rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(GraphInputError, match=rf"{day.folder}.*ingest --day {date_of(1)}"):
        stored_days(root, GraphConfig())
    assert store(day_log(1), 1).days[date_of(1)].events == day.events
    stored_days(root, GraphConfig())


@pytest.mark.slow
def test_an_ingest_that_dies_anywhere_leaves_the_store_as_it_was(
    store: Callable[..., Any], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(day_log(0), 0)
    before = (Path(root) / "days.json").read_bytes()
    for module, name in (("ingest", "write_days"), ("days_file", "write_text")):
        with monkeypatch.context() as patch:
            patch.setattr(f"graph_build.days.{module}.{name}", _die)
            patch.setattr("graph_build.days.days_file.remove_folder", _die)
            with pytest.raises(_DeadError):
                store(day_log(1), 1)
        assert (Path(root) / "days.json").read_bytes() == before
        assert len(list(Path(root).glob("2*"))) > 1, "what it had written is still there"
    assert store(day_log(1), 1).days
    assert len(list(Path(root).glob("2*"))) == 2


class _DeadError(BaseException):
    pass


def _die(*_: object, **__: object) -> None:
    raise _DeadError
