"""Versions are published and opened; damaged versions and wrong formats are refused."""

import json
import logging
from pathlib import Path

import pytest

from jobs.errors import CorruptVersionError, FormatVersionError, NoVersionError, RolledBackError, StoreError
from jobs.nightly.versions import rollback
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import add, manifest, publish


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
    damage(workspace.open().path, "file cut off")  # this damages the local copy
    assert (workspace.open().path / "index" / "vectors.faiss").read_text() == "vectors"
    workspace.write_file(f"versions/{workspace.current()}/index/vectors.faiss", b"VECTORS")
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


BROKEN = ["", "{", '{"version": 3}', '{"version": ""}', "[]", "\xff"]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_current_without_a_whole_version_is_named(any_workspace: Workspace, content: str) -> None:
    any_workspace.write_file("current", content.encode("latin-1"))
    with pytest.raises(CorruptVersionError, match="current is not"):
        any_workspace.current()


@pytest.mark.parametrize("content", [None, '{"version": "20260101T000000-ffffffff"}', *BROKEN])
def test_the_newest_whole_version_counts_as_published_if_current_is_lost(
    any_workspace: Workspace, content: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    names = [publish(any_workspace, fingerprint=digit * 32) for digit in "9352"]
    any_workspace.delete_file(f"versions/{names[3]}/index/vectors.faiss")
    any_workspace.roll_back(names[1], names[3])
    any_workspace.roll_back(names[2], names[1])  # from here on the third version no longer counts as rolled back
    if content is None:
        any_workspace.delete_file("current")
    else:
        any_workspace.write_file("current", content.encode("latin-1"))
    assert any_workspace.current() == any_workspace.open().name == names[2]
    assert f"the newest whole version {names[2]} counts as published" in caplog.text
    assert caplog.text.count("counts as published") == 1, "said once, though servers ask again and again"
    rollback(any_workspace, names[0])
    assert any_workspace.published() == (names[0], None)


def test_versions_are_in_the_order_of_publication(any_workspace: Workspace) -> None:
    names = [publish(any_workspace, fingerprint=digit * 32) for digit in "7a1f0"]
    assert any_workspace.versions() == names
    assert [any_workspace.manifest(name).publication for name in names] == [1, 2, 3, 4, 5]


def test_manifests_of_older_releases_are_in_the_order_in_which_they_were_made(workspace: Workspace) -> None:
    names = [publish(workspace, fingerprint=digit * 32) for digit in "7a1f"]
    days = dict(zip(names, (3, 2, 1, 1), strict=True))
    for name, day in days.items():
        path = workspace.open(name).path / "manifest.json"
        fields = json.loads(path.read_text()) | {"created_at": f"2026-03-0{day}T00:00:00Z"}
        del fields["publication"]
        path.write_text(json.dumps(fields))
    assert workspace.versions() == [names[2], names[3], names[1], names[0]], "by time, then by name"
    last = publish(workspace, fingerprint="0" * 32)
    assert workspace.versions()[-1] == last


def test_the_current_of_an_older_release_is_read_and_that_of_a_newer_one_too(workspace: Workspace) -> None:
    name = publish(workspace)
    fields = json.loads(workspace.read_file("current") or b"")
    assert fields["version"] == name, "older releases read only this"
    for content in ({"version": name}, {"version": name, "by": "magic", "at": 7}, fields | {"new": 1}):
        workspace.write_file("current", json.dumps(content).encode())
        assert workspace.current() == workspace.pointer().version == name


def test_an_added_version_lies_beside_the_published_ones_until_it_is_promoted(any_workspace: Workspace) -> None:
    first = publish(any_workspace)
    added = add(any_workspace, "1")
    later = publish(any_workspace, fingerprint="2" * 32)
    assert any_workspace.versions() == [first, later]
    assert any_workspace.unpublished() == [added]
    assert any_workspace.current() == later
    assert any_workspace.find("1" * 32) == any_workspace.open(added, verify=True).name == added
    with pytest.raises(NoVersionError, match=f"`lightsage publish {added}`"):
        any_workspace.roll_back(added, instead_of=later)
    with any_workspace.lock():
        published = any_workspace.promote(added, {"gates": [1]})
    assert any_workspace.current() == added
    assert any_workspace.versions() == [first, later, added]
    assert any_workspace.unpublished() == []
    assert published.manifest == any_workspace.open(added, verify=True).manifest
    assert (published.manifest.publication, published.manifest.metrics) == (3, {"gates": [1]})
    assert rollback(any_workspace, None) == (added, later)


def test_an_added_version_never_takes_the_place_of_a_lost_current(any_workspace: Workspace) -> None:
    name = publish(any_workspace)
    add(any_workspace, "1")
    any_workspace.delete_file("current")
    assert any_workspace.current() == name


def test_a_version_that_is_promoted_while_a_person_rolls_back_can_be_published_by_a_rollback(
    any_workspace: Workspace,
) -> None:
    first, second, added = publish(any_workspace), publish(any_workspace, fingerprint="2" * 32), add(any_workspace, "1")
    with any_workspace.lock():
        rollback(Workspace(any_workspace.uri), None)
        with pytest.raises(RolledBackError, match=f"rollback --to {added}"):
            any_workspace.promote(added)
    assert any_workspace.current() == first
    assert any_workspace.versions() == [first, second, added]
    assert rollback(any_workspace, added) == (first, added)
