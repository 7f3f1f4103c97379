"""A forgotten user is gone from the store, stays gone, and is gone for every reader even if `forget` was stopped."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from graph_build.build import GraphInputs, build_graphs
from graph_build.config import GraphConfig, StrongClickConfig
from graph_build.days.days_file import read_days_file
from graph_build.days.forget import forget
from graph_build.days.store import stored_days
from graph_build.errors import GraphInputError
from tests.graph_build.conftest import at, event, sorted_tables
from tests.graph_build.days.conftest import Rows, date_of, day_log


def sessions_of(log: Rows, *users: str) -> set[str]:
    return {row["session_id"] for row in log if row["user_id"] in users}


def without(log: Rows, *users: str) -> Rows:
    return [row for row in log if row["session_id"] not in sessions_of(log, *users)]


def hash_of(spark: Any, user: str) -> int:
    return spark.range(1).select(F.xxhash64(F.lit(user))).first()[0]  # type: ignore[no-any-return]


def on_disk(root: str) -> set[int]:
    """Return every user that a file of the store holds, whether or not `days.json` names the file."""
    users: set[int] = set()
    for file in Path(root).rglob("*.parquet"):
        table = pq.ParquetFile(file).read()
        if "user" in table.column_names:
            for value in table["user"].to_pylist():
                users.update(value if isinstance(value, list) else [value])
    return users


@pytest.mark.slow
def test_forgetting_users_gives_the_graph_of_a_log_without_their_sessions_and_they_do_not_come_back(
    spark: Any, store: Callable[..., Any], root: str, built: Callable[..., Any], tmp_path: Path
) -> None:
    log = [*day_log(0), *day_log(1)]
    bad = [event("0-1", at(50), "teleport", "a"), event("x", at(51), "teleport", "a", user_id=" u1")]
    store([*log, *bad, event("y", at(52), "teleport", "a", user_id="u5")])
    deleted = sessions_of(log, "u1", "u2")
    result = forget(spark, [" u1", "u2"], root, GraphConfig())
    assert (result.sessions, result.refused, result.swept) == (len(deleted), 2, [])
    again = forget(spark, ["u1", "nobody"], root, GraphConfig())
    assert (again.sessions, again.refused, again.swept) == (0, 0, []), "nothing was left to do"
    assert on_disk(root).isdisjoint({hash_of(spark, "u1"), hash_of(spark, "u2")})
    assert hash_of(spark, "u5") in on_disk(root)
    with pytest.raises(GraphInputError, match="max_gap_minutes"):
        forget(spark, ["u3"], root, GraphConfig(strong_click=StrongClickConfig(max_gap_minutes=5)))
    _, from_log = built(without(log, "u1", "u2"))
    build_graphs(spark, GraphInputs(days=root), str(tmp_path / "night"), GraphConfig())
    assert sorted_tables(tmp_path / "night") == sorted_tables(from_log)
    assert len(list(Path(root).glob("*/2026*"))) == 2, "the folders that were replaced are deleted"
    # Neither a whole day that is ingested again nor late rows bring the users back.
    store([*day_log(1), *bad], 1)
    store([*bad, event("late", at(99), "view", "i1", user_id="u2"), event("late2", at(99), "view", "i1", user_id="u5")])
    assert on_disk(root).isdisjoint({hash_of(spark, "u1"), hash_of(spark, "u2")})


@pytest.mark.slow
def test_a_day_of_which_nothing_is_left_is_deleted_and_does_not_come_back(
    spark: Any, store: Callable[..., Any], root: str
) -> None:
    one = [event("a", at(1), "view", "i1", user_id="u1"), event("a", at(2), "view", "i2")]
    other = [event("b", at(1, day=1), "view", "i1"), event("b", at(2, day=1), "view", "i2")]
    store([*one, *other])
    assert forget(spark, ["u1"], root, GraphConfig()).sessions == 1
    assert sorted(read_days_file(root).days) == [date_of(1)]
    with pytest.raises(GraphInputError, match=f"no valid event of {date_of(0)}"):
        store(one, 0)
    # A session without a user is forgotten by its session id.
    assert forget(spark, ["b"], root, GraphConfig()).sessions == 1
    assert read_days_file(root).days == {}
    with pytest.raises(GraphInputError, match="no day is stored"):
        stored_days(root, GraphConfig())
    with pytest.raises(GraphInputError, match="no day is stored"):
        forget(spark, ["u1"], root + "-elsewhere", GraphConfig())


def test_a_store_of_format_2_is_forgotten_from_and_its_refused_rows_are_deleted(spark: Any, root: str) -> None:
    shutil.copytree(Path(__file__).parents[1] / "fixtures" / "stored_days_v2", root)
    quarantine = next(Path(root).glob("2*")) / "quarantine"
    quarantine.mkdir()
    shutil.copyfile(next(Path(root).rglob("part-0.parquet")), quarantine / "part-0.parquet")
    deleted = sessions_of(day_log(0), "u1")
    assert forget(spark, ["u1"], root, GraphConfig()).sessions == len(deleted)
    assert not quarantine.exists()
    assert json.loads((Path(root) / "days.json").read_text())["forgotten"] == [str(hash_of(spark, "u1"))]
    assert read_days_file(root).days[date_of(0)].source == "a fingerprint"


class _DeadError(BaseException):
    """The process was killed."""


class _Killer:
    """Wraps the steps that the store takes in the file system; they fail from the n-th on, as in a killed process."""

    def __init__(self, patch: pytest.MonkeyPatch, at_step: int) -> None:
        self.at_step, self.step = at_step, 0
        for module, name in (
            ("days_file", "write_text"),
            ("days_file", "remove_folder"),
            ("forget", "remove_folder"),
            ("writer", "write_and_read"),
        ):
            path = f"graph_build.days.{module}.{name}"
            patch.setattr(path, self._dying(__import__(f"graph_build.days.{module}", fromlist=[name]).__dict__[name]))

    def _dying(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            self.step += 1
            if self.step >= self.at_step:
                raise _DeadError
            return function(*arguments)

        return step


@pytest.mark.slow
def test_a_kill_at_any_step_hides_the_user_from_readers_and_the_next_forget_finishes(
    spark: Any, store: Callable[..., Any], root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = day_log(0, sessions=6)
    store([*log, event("x", at(51), "teleport", "a", user_id="u1")])
    whole, user = tmp_path / "whole", hash_of(spark, "u1")
    shutil.copytree(root, whole)
    for step in (1, 2, 4, 6, 7):  # killed before the list, two tables and the last step; there is no seventh step
        shutil.rmtree(root)
        shutil.copytree(whole, root)
        with monkeypatch.context() as patch:
            killer = _Killer(patch, step)
            try:
                forget(spark, ["u1"], root, GraphConfig())
            except _DeadError:
                pass
            else:
                break
        if step > 1:
            seen = {
                row["session"]
                for row in stored_days(root, GraphConfig()).rows(spark).where(F.array_contains("user", user)).collect()
            }
            assert not seen, step
        others = forget(spark, ["u1" if step == 1 else "nobody"], root, GraphConfig())
        assert user not in on_disk(root), step
        assert others.sessions + bool(others.swept) > 0, step
        assert forget(spark, ["u1"], root, GraphConfig()).swept == [], step
    assert killer.step == step - 1 == 6, "the list, three tables, days.json, the folder of the old day"
