"""The format of log lines: coloured on a terminal, plain text or JSON elsewhere."""

import datetime as dt
import json
import logging
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from jobs.packages import ROOMS

# The attributes that every record has. All others come from `extra`, and become fields of the JSON object.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, `extra` fields, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        } | {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to_stderr(*, verbose: bool, lines: str) -> None:
    """Write this process's log to standard error.

    Args:
        verbose: whether to log details.
        lines: "json" for JSON lines; "plain" for text, which is coloured on a terminal.
    """
    console = Console(stderr=True)
    handler: logging.Handler
    if lines == "json":
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
    elif console.is_terminal:
        handler = RichHandler(console=console, show_path=False, show_time=False, markup=False)
        # Without a format of its own, `basicConfig` would give the handler one that writes the level a second time.
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        handler.addFilter(_is_worth_logging)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C caused the error.

    Errors of the clean-up after Ctrl-C count, too. They are frequent with Spark.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """False for tracebacks of Ctrl-C, and for py4j's records about a JVM that ends. Both reach the caller as errors."""
    interrupted = record.exc_info and is_interrupt(record.exc_info[1])
    return not interrupted and "py4j" not in Path(record.pathname).parts
