"""If an object store cannot be used, every command that needs it says so in one line, with what to do."""

from pathlib import Path
from typing import Any

import pytest

from jobs.errors import StoreError
from jobs.workspace import store_errors

s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")

INPUTS = (
    ["run", "--events", "s3://bucket/log"],
    ["run", "--graph", "s3://bucket/graph"],
    ["nightly", "--date", "2026-03-06", "--graph", "s3://bucket/graph"],
    ["versions"],
)


def arguments(command: list[str], tmp_path: Path) -> list[str]:
    return [*command, "--workspace", "s3://bucket/shop" if command == ["versions"] else str(tmp_path / "shop")]


@pytest.mark.parametrize("command", INPUTS, ids=" ".join)
def test_missing_credentials_are_one_line(
    command: list[str], refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    message = refused(*arguments(command, tmp_path))
    assert message.count("\n") == 1
    assert "s3://bucket" in message
    assert "no credentials were found. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message


@pytest.mark.parametrize("command", INPUTS, ids=" ".join)
def test_a_missing_package_of_the_store_is_one_line(
    command: list[str], refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_installed(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(store_errors, "url_to_fs", not_installed)
    message = refused(*arguments(command, tmp_path))
    assert message.count("\n") == 1
    assert "Install s3fs to access S3. `pip install 'lightsage-ads-retrieval[s3]'`" in message


def test_only_schemes_of_s3_are_told_of_its_extra() -> None:
    with pytest.raises(StoreError) as raised:
        store_errors.file_system("nothing://bucket/x", "workspace")
    assert "pip install" not in str(raised.value)
