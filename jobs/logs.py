"""Log lines: rich on a terminal, plain or JSON elsewhere."""

import datetime as dt
import json
import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

ROOMS = ("jobs", "graph_build", "model", "retrieval")
# What a record has of its own; the rest was given with `extra` and is what makes a line worth searching for.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a record: time (UTC), level, logger, message, whatever `extra` adds, and an error's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        } | {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(*, verbose: bool, lines: str) -> None:
    """Send this process's records to standard error: `lines` is plain or json."""
    console = Console(stderr=True)
    handler: logging.Handler
    if lines == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, markup=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        handler.addFilter(_is_news)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether it began with Ctrl-C: cleaning up after one may fail in its turn, Spark's most of all."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_news(record: logging.LogRecord) -> bool:
    """Not a traceback of Ctrl-C, nor what py4j logs on the root logger of a JVM that ends: both are raised as well."""
    interrupted = record.exc_info and is_interrupt(record.exc_info[1])
    return not interrupted and "py4j" not in Path(record.pathname).parts
