"""Each recipe is read and merged with other settings; each sample is recognised and becomes a version."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graph_build.ingest.arrow_reader import read_events
from jobs.cli.cli import main
from jobs.config import load_config
from jobs.errors import ConfigError
from jobs.recipe import merged, read_recipe, recipe_names
from tests.jobs.recipe_samples import ITEMS, SAMPLES
from tests.source_tree import ROOT

# The names that scripts may rely on.
NAMES = [
    *("amazon_m2", "diginetica", "ga4", "hm", "instacart", "otto", "rees46", "retailrocket", "segment", "snowplow"),
    *("weblog", "yoochoose"),
]


def test_the_recipes_are_those_that_scripts_may_name() -> None:
    assert recipe_names() == NAMES
    assert sorted(SAMPLES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_is_a_valid_configuration_and_says_what_it_reads(name: str) -> None:
    recipe = read_recipe(name)
    assert load_config(None, name).graph.input != load_config(None).graph.input
    assert recipe.about
    assert recipe.source.startswith("https://")
    assert recipe.files["events"]
    assert recipe.signs


def test_each_recipe_has_a_line_in_the_docs() -> None:
    page = (ROOT / "docs" / "inspect.md").read_text()
    assert [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")] == NAMES


def test_a_configuration_replaces_a_recipe_key_by_key(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[input.events.types]\ncarts = "ignore"\n[model]\ndim = 16\n')
    merged_config = load_config(config, "otto")
    assert merged_config.graph.input.events.types == {"clicks": "click", "carts": "ignore", "orders": "purchase"}
    assert merged_config.graph.input.events.explode == "events"
    assert merged_config.model.dim == 16


def test_merging_keeps_what_only_one_side_has() -> None:
    assert merged({"a": {"x": 1}, "b": 2}, {"a": {"y": 3}, "c": 4}) == {"a": {"x": 1, "y": 3}, "b": 2, "c": 4}
    assert merged({"a": {"x": 1}}, {"a": 5}) == {"a": 5}


def test_an_unknown_recipe_is_named_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"there is no recipe 'reese46', did you mean 'rees46'\? recipes are amazon_m2"
    ):
        read_recipe("reese46")


@pytest.mark.parametrize("name", NAMES)
def test_inspect_recognises_each_layout_and_needs_no_further_settings(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = SAMPLES[name](tmp_path)
    paths = dict.fromkeys([*raw.events, *([raw.items] if raw.items else []), *raw.others])
    assert main(["inspect", "--json", *map(str, paths)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"] == name
    events = next(table for table in found["tables"] if table["table"] == "events")
    assert events["settings"] == {}
    assert [fault for fault in events["faults"] if fault["stops"]] == []
    assert found["next"].startswith("lightsage run --events ")
    assert f"--recipe {name} " in found["next"]
    assert set(raw.types) <= set(events["types"].values())


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_reads_all_events_of_the_raw_files(name: str, tmp_path: Path) -> None:
    raw = SAMPLES[name](tmp_path)
    events = read_events(list(map(str, raw.events)), load_config(None, name).graph.input)
    counts = events.rows["event_type"].value_counts().to_pylist()
    assert events.refused == {}
    # H&M's file may hold copies of what a customer bought on a day; sessions drop the copies.
    assert {count["values"]: count["counts"] for count in counts} == (raw.rows or raw.types)


TINY = """
[model]
dim = 16
members = 1
[model.train]
max_epochs = 0.5
threads = 1
[graph.report]
max_networkx_edges = 0
max_component_edges = 0
"""


@pytest.fixture(scope="module")
def quick_spark(spark_for_commands: Any) -> Iterator[None]:
    """Switch off Spark's generated code and adaptive plans: on a few rows they cost more than they save."""
    from graph_build.spark.session import QUERY_SETTINGS

    settings = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    before = {name: spark_for_commands.conf.get(name) for name in settings}
    for name, value in settings.items():
        spark_for_commands.conf.set(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(QUERY_SETTINGS, "spark.sql.adaptive.enabled", "false")
        yield
    for name, value in before.items():
        spark_for_commands.conf.set(name, value)


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_each_layout_becomes_a_published_version_by_its_recipe_alone(
    name: str, tmp_path: Path, quick_spark: None
) -> None:
    raw = SAMPLES[name](tmp_path)
    tiny = tmp_path / "tiny.toml"  # only for speed
    tiny.write_text(TINY)
    items = ["--items", str(raw.items)] if raw.items else []
    workspace = tmp_path / "workspace"
    arguments = ["--events", *map(str, raw.events), *items, "--recipe", name, "--config", str(tiny)]
    assert main(["run", *arguments, "--workspace", str(workspace)]) == 0
    version = workspace / "versions" / json.loads((workspace / "current").read_text())["version"]
    summary = json.loads((version / "graph" / "summary.json").read_text())
    assert summary["events"]["by_type"] == raw.types
    assert summary["quarantined"]["events"] == {}
    assert summary["nodes"] == ITEMS
    assert sum(summary["edges"].values()) > 0
