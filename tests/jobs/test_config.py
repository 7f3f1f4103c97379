"""The one TOML file: what it says wrongly is named, with what it could have said."""

from pathlib import Path

import pytest

from jobs.cli.cli import main
from jobs.config import Config, load_config
from jobs.errors import ConfigError


@pytest.fixture
def said(tmp_path: Path):
    def load(text: str) -> str:
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return load


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model.loss]\ntemprature = 1", ("model.loss.temprature: unknown key, did you mean 'temperature'?",)),
        ("[retreival]", ("retreival: unknown key, did you mean 'retrieval'?", "nightly, input", "graph, model")),
        ("[inptu.events]", ("inptu: unknown key, did you mean 'input'?",)),
        ("[input.event]", ("  input.event: unknown key, did you mean 'events'?", "items, ads, max_bad_share")),
        ("[graph.input.event]", ("  input.event: unknown key",)),
        ("[graph]\nzzzz = 1", ("graph.zzzz: unknown key. Known here: strong_click",)),
        ("[serve]\nmax_k = 0", ("serve.max_k", "greater than or equal to 1", "(got 0)")),
        ("[model]\ndim = 100\nmembers = 3", ("model: dim = 100 cannot be shared among members = 3",)),
        (
            "[prerank]\nenabled = true",
            ("prerank.enabled needs the graph's counters: set counters = true under [graph]",),
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_and_all_there_are(said, text: str, words: tuple[str, ...]) -> None:
    message = said(text)
    for word in words:
        assert word in message


def test_the_input_is_not_offered_where_nobody_writes_it(said) -> None:
    assert "input" not in said("[graph]\nzzzz = 1").partition("Known here")[2]


def test_a_room_that_is_no_table_is_an_error_too(said) -> None:
    assert "graph" in said("graph = 3\n[input.events]\ntimestamp_unit = 'ms'")


def test_all_settings_are_printed_and_read_back(tmp_path, capsys):
    path = tmp_path / "c.toml"
    assert main(["config"]) == 0
    path.write_text(capsys.readouterr().out)
    assert load_config(path) == Config()
    path.write_text('[input.events.types]\n"page view" = "view"\n[model]\nmatryoshka = [16]\nmembers = 1\n')
    assert main(["config", "--config", str(path)]) == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out)
    assert load_config(again) == load_config(path) != Config()
    assert "# prior_weight =" in again.read_text()


def test_heads_share_the_dimensions_and_input_is_said_once(said) -> None:
    assert "session.heads = 5 cannot share model.dim = 192" in said("[session]\nenabled = true\nheads = 5")
    assert "both [input] and [graph.input]" in said("[input]\nmax_bad_share = 0.1\n[graph.input.events]\n")
