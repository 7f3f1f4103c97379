"""Versions are published and opened; damaged versions and wrong formats are refused."""

import json
import logging
from pathlib import Path

import pytest

from jobs.errors import CorruptVersionError, FormatVersionError, NoVersionError, StoreError
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import manifest, publish


def test_a_published_version_is_current_complete_and_found_by_its_fingerprint(
    any_workspace: Workspace,
) -> None:
    name = publish(any_workspace)
    version = any_workspace.open(verify=True)
    assert any_workspace.current() == name == version.name == "20260315T235959-00000000"
    assert (version.path / "index" / "vectors.faiss").read_text() == "vectors"
    assert version.manifest.files["index/vectors.faiss"].bytes == len("vectors")
    assert any_workspace.find("0" * 32) == name
    assert any_workspace.find("0" * 8 + "1" * 24) is None


def test_the_latest_publish_is_current_and_older_versions_stay(any_workspace: Workspace) -> None:
    first = publish(any_workspace)
    second = publish(any_workspace, "better", fingerprint="1" * 32)
    assert any_workspace.current() == second
    assert any_workspace.versions() == [first, second]
    assert (any_workspace.open(first).path / "index" / "vectors.faiss").read_text() == "vectors"


def test_an_empty_workspace_says_what_to_run(any_workspace: Workspace) -> None:
    with pytest.raises(NoVersionError, match=r"has no published version: run `lightsage run` first"):
        any_workspace.open()
    assert any_workspace.versions() == []


def test_an_unknown_version_is_named_with_the_existing_ones(workspace: Workspace) -> None:
    name = publish(workspace)
    with pytest.raises(NoVersionError, match=f"'nope'.*{name}"):
        workspace.open("nope")


def test_a_version_is_never_published_twice(workspace: Workspace) -> None:
    publish(workspace)
    with pytest.raises(StoreError, match="never change"):
        publish(workspace, "other")
    assert (workspace.open(verify=True).path / "index" / "vectors.faiss").read_text() == "vectors"


def damage(version: Path, fault: str) -> None:
    data, text = version / "index" / "vectors.faiss", version / "manifest.json"
    match fault:
        case "file missing":
            data.unlink()
        case "file cut off":
            data.write_text("vec")
        case "file changed":
            data.write_text("VECTORS")
        case "manifest missing":
            text.unlink()
        case "manifest cut off":
            text.write_text(text.read_text()[:40])
        case "manifest of something else":
            text.write_text('{"format_version": 1, "name": "x"}')
        case "manifest a list":
            text.write_text("[]")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("file missing", "vectors.faiss is missing"),
        ("file cut off", "vectors.faiss has 3 bytes, the manifest says 7"),
        ("file changed", "vectors.faiss has SHA-256"),
        ("manifest missing", "manifest.json is missing"),
        ("manifest cut off", "manifest.json is not a manifest"),
        ("manifest of something else", "manifest.json is not a valid manifest"),
        ("manifest a list", "manifest.json is not a manifest"),
    ],
)
def test_a_damaged_version_is_refused_and_the_file_is_named(workspace: Workspace, fault: str, message: str) -> None:
    publish(workspace)
    damage(workspace.open().path, fault)
    with pytest.raises(CorruptVersionError, match=message) as error:
        workspace.open(verify=True)
    assert "Run `lightsage run` again to rebuild it, or go back to another version" in str(error.value)


@pytest.mark.parametrize("fault", ["file missing", "file cut off", "file changed", "manifest cut off"])
def test_a_damaged_version_is_not_found_again_and_gives_way_to_the_new_build(
    workspace: Workspace, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = publish(workspace)
    damage(workspace.open().path, fault)
    with caplog.at_level(logging.WARNING):
        assert workspace.find("0" * 32) is None
    assert "is damaged and will be built again" in caplog.text
    assert ("manifest.json" if fault == "manifest cut off" else "vectors.faiss") in caplog.text
    assert publish(workspace, "vectors, again") == name
    assert (workspace.open(verify=True).path / "index" / "vectors.faiss").read_text() == "vectors, again"
    assert workspace.find("0" * 32) == name
    assert list((tmp_path / "ws" / "staging").iterdir()) == []


def test_a_damaged_local_copy_of_a_version_elsewhere_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    workspace = Workspace(f"memory://{tmp_path.name}")
    publish(workspace)
    damage(workspace.open().path, "file cut off")  # the copy
    assert (workspace.open().path / "index" / "vectors.faiss").read_text() == "vectors"
    workspace._fs.pipe_file(f"{tmp_path.name}/versions/{workspace.current()}/index/vectors.faiss", b"VECTORS")
    assert workspace.find("0" * 32) == workspace.current(), "the copy is whole"
    damage(workspace.open().path, "file cut off")
    assert workspace.find("0" * 32) is None
    publish(workspace, "vectors, again")
    assert (workspace.open(verify=True).path / "index" / "vectors.faiss").read_text() == "vectors, again"


def test_only_the_folders_that_are_needed_are_checked(workspace: Workspace) -> None:
    with workspace.lock(), workspace.scratch_folder() as staged:
        for part in ("index", "embeddings"):
            (staged / part).mkdir()
            (staged / part / "item.npy").write_text(part)
        version = workspace.publish(staged, manifest())
    (version.path / "embeddings" / "item.npy").write_text("damaged")
    assert workspace.open(verify=True, parts=("index",)).name == version.name
    with pytest.raises(CorruptVersionError, match="embeddings"):
        workspace.open(verify=True, parts=("index", "embeddings"))


def test_another_format_version_is_refused_naming_both(workspace: Workspace) -> None:
    publish(workspace)
    path = workspace.open().path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99, "new_field": 1}))
    with pytest.raises(FormatVersionError, match=r"format version 99, this code reads 1"):
        workspace.open()


@pytest.mark.parametrize("content", ["", "{", '{"version": 3}', "[]"])
def test_a_broken_current_is_named(workspace: Workspace, tmp_path: Path, content: str) -> None:
    publish(workspace)
    (tmp_path / "ws" / "current").write_text(content)
    with pytest.raises(CorruptVersionError, match="current is not"):
        workspace.current()


def test_a_file_that_is_deleted_while_files_are_read_is_left_out(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_file("serving/a.json", b"1")
    read = workspace._fs.cat_file
    monkeypatch.setattr(workspace._fs, "glob", lambda _: [f"{workspace.uri}/serving/{name}.json" for name in "ab"])
    assert list(workspace.read_files("serving/*.json").values()) == [read(f"{workspace.uri}/serving/a.json")]
