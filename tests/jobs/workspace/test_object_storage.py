"""A workspace in an object store: the real S3 protocol, spoken by moto's server."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from jobs.cli.cli import main
from jobs.errors import CorruptVersionError, NoVersionError, WorkspaceBusyError
from jobs.nightly.versions import delete_old_versions, list_versions, rollback
from jobs.workspace.manifest import Manifest
from jobs.workspace.server_leases import served_versions
from jobs.workspace.workspace import Version, Workspace

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
    """An empty workspace in a bucket of its own, with a download cache of its own."""
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
    """Publish the version of a local workspace under another name."""
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
    real, calls = workspace._fs.put, iter(range(9))

    def breaks(sources: list[str], targets: list[str]) -> None:
        if next(calls) == 1:
            raise OSError("connection reset")
        real(sources, targets)

    with monkeypatch.context() as patch:
        patch.setattr(workspace._fs, "put", breaks)
        with pytest.raises(OSError, match="connection reset"):
            publish(workspace, shop.version, "20260302T000000-00000002")
    assert Workspace(uri).current() == first
    assert Workspace(uri).versions() == [first]
    assert publish(workspace, shop.version, "20260302T000000-00000002").name == Workspace(uri).current()


def test_a_second_writer_is_refused(uri: str) -> None:
    with Workspace(uri).lock(), pytest.raises(WorkspaceBusyError), Workspace(uri).lock():
        pass
    with Workspace(uri).lock():
        pass


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
