"""The configuration file: errors name the wrong key and suggest the right one, and all settings can be printed."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from jobs.cli.cli import main
from jobs.config import Config, load_config
from jobs.errors import ConfigError
from jobs.settings import as_toml


@pytest.fixture
def load_error(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that loads a file, which must be refused, and returns the error message."""

    def load(text: str) -> str:
        path = tmp_path / "c.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as error:
            load_config(path)
        assert str(path) in str(error.value)
        return str(error.value)

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
            ("prerank.enabled needs the graph's counters; set counters = true under [graph]",),
        ),
        (
            "[session]\nenabled = true\nheads = 5",
            ("session.heads = 5 does not divide model.dim = 192; set session.heads to a divisor",),
        ),
        ("[input]\nmax_bad_share = 0.1\n[graph.input.events]\n", ("both [input] and [graph.input]",)),
    ],
)
def test_an_error_names_the_wrong_key_and_what_is_allowed(
    load_error: Callable[[str], str], text: str, words: tuple[str, ...]
) -> None:
    message = load_error(text)
    for word in words:
        assert word in message


def test_input_is_not_listed_among_the_keys_of_graph(load_error: Callable[[str], str]) -> None:
    assert "input" not in load_error("[graph]\nzzzz = 1").partition("Known here")[2]


def test_a_value_in_place_of_a_section_is_refused(load_error: Callable[[str], str]) -> None:
    assert "graph" in load_error("graph = 3\n[input.events]\ntimestamp_unit = 'ms'")


def test_the_printed_settings_are_read_back_as_the_same_configuration(tmp_path: Path, capsys) -> None:
    path = tmp_path / "c.toml"
    assert main(["config"]) == 0
    path.write_text(capsys.readouterr().out)
    assert load_config(path) == Config()
    path.write_text(
        '[input.events.types]\n"page view" = "view"\n"détail \\"x\\"" = "click"\n'
        '[input.items]\nfeatures = ["a", "b"]\n[model]\nmatryoshka = [16]\nmembers = 1\n'
    )
    assert main(["config", "--config", str(path)]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    assert load_config(printed) == load_config(path) != Config()
    assert "# prior_weight =" in printed.read_text()


def test_the_printed_settings_have_every_key_with_its_description() -> None:
    """A key without a value is printed as a comment."""
    text = as_toml(Config())
    comments = " ".join(line.partition("# ")[2] for line in text.splitlines())

    def check(section: BaseModel, printed: dict[str, object]) -> None:
        for key, field in type(section).model_fields.items():
            value = getattr(section, key)
            if isinstance(value, BaseModel):
                if key != "input":
                    check(value, printed[key])  # type: ignore[arg-type]
                continue
            assert (key in printed) == (value is not None), key
            assert value is not None or f"# {key} =" in text, key
            assert " ".join((field.description or "").split()) in " ".join(comments.split()), key

    printed = tomllib.loads(text)
    check(Config(), printed)
    check(Config().graph.input, printed["input"])
