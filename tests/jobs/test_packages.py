"""Packages that are not installed are named with their extra, and modules of a user that hide ours do no harm."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from jobs import packages
from jobs.cli import cli
from tests.source_tree import ROOT

# Distribution → the module that it installs, if the two names differ.
MODULES = {"faiss-cpu": "faiss", "numpy": None}


def run(code: str, cwd: Path, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a folder; on the path, the packages of this checkout come after the folder."""
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(cwd), **env}
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False)


def test_every_package_of_an_extra_is_known() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in packages.EXTRAS.items():
        for requirement in extras[extra]:
            name = requirement.partition(">")[0].partition("[")[0]
            assert MODULES.get(name, name.replace("-", "_")) in {*modules, *sum(packages.EXTRAS.values(), ())}, name


@pytest.mark.parametrize(
    ("module", "extra"), [("faiss", "serve"), ("torch.nn", "train"), ("pyspark.sql", "graph"), ("s3fs", "s3")]
)
def test_a_missing_package_is_one_line_with_the_way_out(
    refused: Any, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def fails(_: object) -> int:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    command = cli.COMMANDS["config"]
    monkeypatch.setitem(cli.COMMANDS, "config", command.__class__(command.name, "", command.add_arguments, fails))
    message = refused("config")
    assert message.count("\n") == 1
    assert f"the package {module.partition('.')[0]} is not installed, and `lightsage config` needs it" in message
    assert f"pip install 'lightsage-ads-retrieval[{extra}]'" in message


def test_a_bug_in_an_import_of_ours_is_no_missing_package() -> None:
    for error in (ModuleNotFoundError("x", name="jobs.nothing"), ImportError("x", name="torch"), ValueError("torch")):
        assert packages.missing_package(error, "run") is None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder of a user, with modules that have the names of our packages."""
    for name in ("model", "retrieval"):
        (tmp_path / f"{name}.py").write_text(f"print('another {name}')\n")
    for name in ("graph_build", "jobs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('another package')\n")
    return tmp_path


ROOMS_FOUND = """
import jobs.cli.cli as cli
assert cli.main(['config']) == 0
import graph_build, model.config, retrieval.config
print(graph_build.__file__, model.__file__, retrieval.__file__)
"""


@pytest.mark.parametrize("names", [("model.py", "retrieval.py"), ("graph_build",)])
def test_commands_find_our_packages_although_the_path_begins_with_others(project: Path, names: tuple[str, ...]) -> None:
    for path in project.iterdir():
        if path.name not in names:
            path.rename(path.with_name(f"other_{path.name}"))
    done = run(ROOMS_FOUND, project, PYTHONPATH=f"{project}:{ROOT}")
    assert done.returncode == 0, done.stderr
    assert str(project) not in done.stdout.splitlines()[-1]


def test_the_console_script_does_not_look_in_the_working_directory(project: Path) -> None:
    """Like an installed script, the script of this test has its own folder first on its path."""
    script = project.parent / "bin"
    script.mkdir(exist_ok=True)
    (script / "lightsage").write_text("import sys\nfrom jobs.cli.cli import main\nsys.exit(main())\n")
    command = [sys.executable, script / "lightsage", "config"]
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(project)}
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "another" not in done.stdout.splitlines()[0]


def test_python_with_m_looks_in_the_working_directory_unless_it_is_told_not_to(project: Path) -> None:
    variables = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(project)}
    for flags, code in (([], 1), (["-P"], 0)):
        command = [sys.executable, *flags, "-m", "jobs.cli.cli", "config"]
        done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr


def test_a_script_beside_a_model_of_its_own_is_told_what_to_do(project: Path) -> None:
    for path in (project / "jobs", project / "graph_build"):
        path.rename(path.with_name(f"other_{path.name}"))
    done = run("from jobs import build", project)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: `import model` finds {project / 'model.py'} instead of LightSAGE's package")
    assert "start Python with -P" in last
    assert run("from jobs import build", project, "-P").returncode == 0
