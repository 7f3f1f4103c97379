"""A missing driver is named in one line, and exports delete no collections but earlier ones under the same name."""

import sys
import tomllib
from pathlib import Path

import pytest

from jobs.cli import export_commands
from retrieval.errors import ExportError
from retrieval.export.drivers import generation, generations, without_password
from retrieval.export.stores import STORES, write_to
from tests.retrieval.export.exported import VERSION, small_export
from tests.source_tree import ROOT

DRIVERS = {"qdrant": "qdrant_client", "pgvector": "psycopg", "milvus": "pymilvus"}


def test_the_command_offers_every_store() -> None:
    assert tuple(STORES) == export_commands.STORES


@pytest.mark.parametrize("store", DRIVERS)
def test_a_missing_driver_is_one_line_with_what_to_install(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, DRIVERS[store], None)
    with pytest.raises(ExportError) as failure:
        write_to(store, small_export(), str(tmp_path / "target.db"), "lightsage")
    extra = f"lightsage-ads-retrieval[{store}]"
    assert str(failure.value) == f"--to {store} needs the package {DRIVERS[store]}: pip install '{extra}'"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert store in extras


def test_only_collections_of_exports_under_the_same_name_are_deleted() -> None:
    ours = [generation("lightsage", VERSION), generation("lightsage", VERSION)]
    others = ["lightsage", "lightsage_fr", generation("lightsage_fr", VERSION), f"x{ours[0]}", f"{ours[0]}x", "docs"]
    assert len(set(ours)) == 2
    assert generations("lightsage", [*ours, *others]) == ours


def test_passwords_are_hidden() -> None:
    text = "connection to postgresql://shop:s3cret@db:5432/ads failed: https://a.b/c"
    assert without_password(text) == "connection to postgresql://shop:***@db:5432/ads failed: https://a.b/c"
