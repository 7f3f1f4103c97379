"""A workspace in an object store: the real S3 protocol, spoken by moto's server."""

import datetime as dt
import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from jobs.cli.cli import main
from jobs.errors import (
    CorruptVersionError,
    LockLostError,
    NoVersionError,
    StoreUnreachableError,
    WorkspaceBusyError,
)
from jobs.nightly.versions import delete_old_versions, list_versions, rollback
from jobs.workspace import lock, sweep
from jobs.workspace.manifest import Manifest
from jobs.workspace.server_leases import served_versions
from jobs.workspace.storage import Storage
from jobs.workspace.version_folder import Version
from jobs.workspace.workspace import Workspace
from tests.jobs.conftest import publish as publish_small

moto_server = pytest.importorskip("moto.server", reason="moto is not installed")
pytest.importorskip("s3fs", reason="s3fs is not installed")
import s3fs  # noqa: E402


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def uri(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URI of an empty workspace in a bucket of its own, with a download cache of its own."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{tmp_path.name.lower().replace('_', '-')[:50]}"
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/shop"


def publish(workspace: Workspace, version: Path, name: str) -> Version:
    """Publish a version from a local folder under another name."""
    manifest = Manifest.model_validate_json((version / "manifest.json").read_bytes())
    with workspace.lock(), workspace.scratch_folder() as staged:
        for part in ("index", "embeddings"):
            shutil.copytree(version / part, staged / part)
        return workspace.publish(staged, manifest.model_copy(update={"version": name, "files": {}}))


def test_versions_are_published_read_rolled_back_and_deleted(uri: str, shop: Any) -> None:
    workspace = Workspace(uri)
    with pytest.raises(NoVersionError):
        workspace.current()
    names = [f"2026030{n}T000000-0000000{n}" for n in (1, 2, 3)]
    for name in names:
        assert publish(workspace, shop.version, name).path.is_dir()
        assert Workspace(uri).current() == name
    assert [version.name for version in list_versions(Workspace(uri))] == names
    assert rollback(Workspace(uri), None) == (names[2], names[1])
    workspace.write_file(
        "serving/host-1.json", b'{"versions": ["%s"], "at": "2999-01-01T00:00:00+00:00"}' % names[0].encode()
    )
    with workspace.lock():
        assert delete_old_versions(workspace, 1) == []
    workspace.delete_file("serving/host-1.json")
    with workspace.lock():
        assert delete_old_versions(workspace, 1) == [names[0]]
    assert Workspace(uri).versions() == names[1:]
    assert served_versions(workspace) == set()


def test_only_the_needed_parts_are_downloaded_and_checked(uri: str, shop: Any, tmp_path: Path) -> None:
    workspace = Workspace(uri)
    name = publish(workspace, shop.version, "20260301T000000-00000001").name
    shutil.rmtree(tmp_path / "cache")
    version = Workspace(uri).open(verify=True, parts=("index",))
    assert {path.name for path in version.path.iterdir()} == {"index"}
    # A damaged copy is downloaded again, a damaged object is refused.
    (version.path / "index" / "meta.json").write_text("{}")
    assert json.loads((Workspace(uri).open(verify=True, parts=("index",)).path / "index" / "meta.json").read_text())
    files = s3fs.S3FileSystem()
    vectors = f"{uri.removeprefix('s3://')}/versions/{name}/index/item.npy"
    content = files.cat_file(vectors)
    files.pipe_file(vectors, content[:-1] + bytes([content[-1] ^ 1]))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(CorruptVersionError, match=r"item.npy has SHA-256"):
        Workspace(uri).open(verify=True, parts=("index",))


def test_an_interrupted_upload_publishes_nothing(uri: str, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(uri)
    first = publish(workspace, shop.version, "20260301T000000-00000001").name
    real, calls = Storage.upload, iter(range(9))

    def breaks(self: Storage, files: list[Path], names: list[str]) -> None:
        with self.errors():
            if next(calls) == 1:
                raise OSError("connection reset")
        real(self, files, names)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "upload", breaks)
        with pytest.raises(StoreUnreachableError, match="shop cannot be reached: connection reset"):
            publish(workspace, shop.version, "20260302T000000-00000002")
    assert Workspace(uri).current() == first
    assert Workspace(uri).versions() == [first]
    assert publish(workspace, shop.version, "20260302T000000-00000002").name == Workspace(uri).current()


def test_a_second_writer_is_refused(uri: str) -> None:
    with Workspace(uri).lock(), pytest.raises(WorkspaceBusyError), Workspace(uri).lock():
        pass
    with Workspace(uri).lock():
        pass


def test_a_lock_is_created_renewed_and_taken_over_by_one_only(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 checks a condition at each write: the file must be missing, or still have the content that was read."""
    first, second = Storage(uri), Storage(uri)
    assert first.create("lock", b"1")
    assert not second.create("lock", b"2")
    assert not second.replace("lock", b"2", expected=b"0")
    read = second.fs.cat_file

    def renewed_meanwhile(path: str) -> bytes:
        content: bytes = read(path)
        first.fs.pipe_file(path, b"3")
        return content

    with monkeypatch.context() as patch:
        patch.setattr(second.fs, "cat_file", renewed_meanwhile)
        assert not second.replace("lock", b"2", expected=b"1")
    assert second.read("lock") == b"3"
    assert second.replace("lock", b"4", expected=b"3")
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.0)
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.3)
    with Workspace(uri).lock():  # takes over an unreadable lock that nobody renews
        deadline = time.monotonic() + 60
        while json.loads(first.read("lock"))["renewals"] < 2:
            assert time.monotonic() < deadline, "it is not renewed"
            time.sleep(0.1)
        first.delete("lock")
    other = Workspace(uri)
    with other.lock():
        first.write("lock", b"5")
        with pytest.raises(LockLostError):
            other.check_lock()


@pytest.mark.parametrize(
    ("variables", "bucket", "code", "message"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, None, 1, "cannot be reached: .*127.0.0.1:9.*run the same command"),
        ({}, "no-such-bucket", 2, "its bucket does not exist"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, None, 2, "redentials"),
        ({}, "Not A Bucket", 2, "Correct the URI|its bucket does not exist"),
    ],
    ids=["unreachable", "no bucket", "no credentials", "no name of a bucket"],
)
def test_every_error_of_the_store_is_one_line(
    uri: str,
    variables: dict[str, str],
    bucket: str | None,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1", **variables}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    place = f"s3://{bucket}/shop" if bucket else uri
    queries, config = tmp_path / "q.parquet", tmp_path / "config.toml"
    config.write_text(f'[nightly]\ndays = "{tmp_path / "days"}"\n')
    commands = [
        ["versions"],
        ["rollback"],
        ["ingest", "--events", str(tmp_path)],
        ["nightly", "--date", "2026-03-06"],
        ["graph", "show", "i1"],
        ["retrieve", "--queries", str(queries), "--k", "3", "--output", str(tmp_path / "out.parquet")],
        ["serve", "--port", "0"],
    ]
    for command in commands:
        capsys.readouterr()
        assert main([*command, "--workspace", place, "--config", str(config)]) == code, command
        error = capsys.readouterr().err
        assert "Traceback" not in error, command
        [line] = [line for line in error.splitlines() if " ERROR " in line]
        assert place in line, command
        assert re.search(message, line), command


def test_a_path_is_never_a_pattern(uri: str) -> None:
    workspace = Workspace(f"{uri} [1]{{a,b}}*#50%ä")
    first, second = publish_small(workspace), publish_small(workspace, fingerprint="1" * 32)
    assert Workspace(workspace.uri).versions() == [first, second]
    workspace.write_file("serving/[a].json", b'{"versions": ["%s"], "at": "2999-01-01T00:00:00Z"}' % first.encode())
    assert served_versions(workspace) == {first}
    assert rollback(workspace, None) == (second, first)
    with workspace.lock():
        workspace.remove(second)
    assert workspace.versions() == [first]
    assert workspace.written_at(f"versions/{second}") == {}
    workspace.open(verify=True)


def test_half_uploaded_and_half_deleted_versions_are_swept_when_they_are_old(
    uri: str, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(uri)
    name = publish(workspace, shop.version, "20260301T000000-00000001").name
    half = "versions/20260302T000000-00000002"
    workspace.write_file(f"{half}/index/item.npy", b"half")
    workspace.write_file("versions/20260303T000000-00000003/index/item.npy", b"half")
    workspace.write_file("serving/a.json", b'{"versions": ["20260303T000000-00000003"], "at": "2999-01-01T00:00:00Z"}')
    with workspace.lock():
        assert workspace.written_at(half), "it may be an upload that goes on"
    monkeypatch.setattr(sweep, "OLD", dt.timedelta(0))
    with workspace.lock():
        assert not workspace.written_at(half)
        assert workspace.written_at("versions/20260303T000000-00000003"), "a server names it"
    assert workspace.versions() == [name]
    workspace.open(verify=True)


def test_commands_work_on_an_object_store_and_a_server_switches_to_the_published_version(
    uri: str, shop: Any, serving: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = Workspace(uri)
    names = ["20260301T000000-00000001", "20260302T000000-00000002"]
    publish(workspace, shop.version, names[0])
    assert main(["versions", "--workspace", uri]) == 0
    assert names[0] in capsys.readouterr().out
    config = tmp_path / "quick.toml"
    config.write_text("[serve]\ncurrent_check_seconds = 0.2\n")
    executable = Path(sys.executable).with_name("lightsage")
    command = [executable, "serve", "--workspace", uri, "--port", 0, "--at", "as-of", "--config", config]
    with serving(command, tmp_path) as url:
        assert json.loads(urlopen(f"{url}/v1/version").read())["version"] == names[0]
        assert served_versions(workspace) == {names[0]}
        publish(workspace, shop.version, names[1])
        item = workspace.open(parts=("index",)).path / "index" / "items.parquet"
        import pyarrow.parquet as pq

        body = json.dumps({"items": [pq.read_table(item)["item_id"][0].as_py()], "k": 3}).encode()
        for _ in range(200):
            request = Request(f"{url}/v1/retrieve", body, {"Content-Type": "application/json"})
            answer = json.loads(urlopen(request).read())
            if answer["version"] == names[1]:
                break
            time.sleep(0.1)
        assert answer["version"] == names[1]
        assert answer["returned"] == 3
    assert served_versions(workspace) == set()
