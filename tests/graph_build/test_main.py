"""The job that runs on a cluster."""

from pathlib import Path
from typing import Any

import pytest

from graph_build.__main__ import main


@pytest.mark.parametrize("text", ["[graph", "[graph]\nzzz = 1", None])
def test_the_job_names_a_configuration_file_that_it_cannot_use(tmp_path: Path, text: str | None, caplog: Any) -> None:
    path = tmp_path / "c.toml"
    if text is not None:
        path.write_text(text)
    assert main(["--events", "e", "--out", str(tmp_path / "out"), "--config", str(path)]) == 2
    assert str(path) in caplog.text
