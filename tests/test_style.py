"""How code is written: public functions are described, a function fits on a screen, a name says what a thing is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import ROOMS, ROOT, sources

# Words that, as a name, do not say what a thing is.
VAGUE = {"found", "place", "asked", "kept", "said", "told", "given", "mark", "news", "wanted", "there"}
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 8
Function = ast.FunctionDef | ast.AsyncFunctionDef


def definitions(path: Path) -> Iterator[tuple[str, Function, bool]]:
    """Yield (name, function, whether it is public) for the module's functions and the methods of its classes."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, Function):
            yield node.name, node, not node.name.startswith("_")
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, Function):
                    public = not node.name.startswith("_") and not member.name.startswith("_")
                    yield f"{node.name}.{member.name}", member, public


def parameters(function: Function) -> list[str]:
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return [arg.arg for arg in every if arg.arg not in ("self", "cls")]


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield variables and parameters with the lines in which they get their values, but no fields of classes."""
    fields = {
        member.target
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in fields:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_is_described(room: str) -> None:
    """If a function of a module has two or more parameters, they are described too."""
    wrong = []
    for path in sources(room):
        for name, function, public in definitions(path):
            if not public:
                continue
            text = ast.get_docstring(function) or ""
            where = f"{path.relative_to(ROOT)}:{function.lineno} {name}"
            if not text:
                wrong.append(f"{where} has no docstring")
            elif "." not in name and len(names := parameters(function)) > 1:
                described = text.partition("Args:")[2]
                wrong += [f"{where} does not describe {name}" for name in names if f"{name}:" not in described]
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_no_function_is_longer_than_a_screen(room: str) -> None:
    """Kernels may be longer: splitting code that numba compiles has a cost."""
    wrong = []
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, Function) or path.name.endswith("kernel.py"):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body and (lines := (node.end_lineno or 0) - body[0].lineno + 1) > LONGEST_FUNCTION:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_no_public_function_takes_too_many_parameters(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{function.lineno} {name} takes {len(parameters(function))}"
        for path in sources(room)
        for name, function, public in definitions(path)
        if public and len(parameters(function)) > MOST_PARAMETERS
    ]
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_names_say_what_a_thing_is(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sources(room)
        for line, name in bound_names(ast.parse(path.read_text()))
        if name in VAGUE
    ]
    assert not wrong


def test_every_configuration_key_is_described() -> None:
    from pydantic import BaseModel

    from jobs.config import Config

    def undescribed(section: type[BaseModel], name: str) -> Iterator[str]:
        for key, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from undescribed(inner, f"{name}{key}.")
            elif not field.description:
                yield f"{name}{key}"

    assert list(undescribed(Config, "")) == []
