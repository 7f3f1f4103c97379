"""Where the sources of the four packages (rooms) are, for the tests that read them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("graph_build", "model", "retrieval", "jobs")


def sources(room: str) -> list[Path]:
    """The Python files of a package, also those in its folders."""
    return sorted((ROOT / room).rglob("*.py"))
