"""`export` writes a version to another store, or says in one line why it cannot."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli.cli import main


def test_a_version_is_exported_and_the_command_says_what_is_left_out(
    shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "--workspace", str(shop.workspace), "--to", "parquet", str(tmp_path / "export")]
    assert main(command) == 0
    first, second = capsys.readouterr().out.splitlines()
    description = json.loads((tmp_path / "export" / "export.json").read_text())
    assert description["version"] == shop.version.name
    assert first.startswith(f"{description['items']:,} items, {description['advertised_items']:,} with an ad, ")
    assert second == f"The vectors do not carry: {', '.join(description['left_out'])}"
    assert "direct edges" in description["left_out"]
    items = pq.read_table(tmp_path / "export" / "items")
    catalogue = pq.read_table(shop.version / "index" / "items.parquet")
    assert items["item_id"].to_pylist() == catalogue["item_id"].to_pylist()
    assert items["title"].to_pylist() == catalogue["title"].to_pylist()


def test_a_target_that_cannot_be_used_is_wrong_input(shop, refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = refused("export", "--workspace", shop.workspace, "--to", "parquet", tmp_path / "file")
    assert message.startswith(f"{tmp_path / 'file'}: is a file; name a folder")


def test_a_store_that_cannot_be_reached_may_be_tried_again(shop, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("psycopg", reason="the extra [pgvector] is not installed")
    url = "postgresql://shop:secret@127.0.0.1:9/ads"
    assert main(["export", "--workspace", str(shop.workspace), "--to", "pgvector", url]) == 1
    error = capsys.readouterr().err
    assert "PostgreSQL: " in error
    assert "secret" not in error
    assert "Traceback" not in error
