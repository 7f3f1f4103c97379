"""Where the rooms' sources are, for the tests that read them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("graph_build", "model", "retrieval", "jobs")


def sources(room: str) -> list[Path]:
    """The Python files of a room and of its wings."""
    return sorted((ROOT / room).rglob("*.py"))
