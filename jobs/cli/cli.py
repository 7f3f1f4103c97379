"""The entry point of `lightsage COMMAND`: parses the command line, runs the command, and turns errors into exit codes.

Each command imports only the packages that it needs. `jobs.cli.command.ExitCode` has the exit codes.
"""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.cli import (
    answer_commands,
    build_commands,
    export_commands,
    model_commands,
    starter_commands,
    version_commands,
)
from jobs.cli.command import Command, ExitCode, Parser
from jobs.cli.hints import version_line
from jobs.logs import is_interrupt, log_to_stderr
from jobs.packages import missing_package
from jobs.workspace.atomic_files import is_disk_full
from jobs.workspace.store_errors import as_store_error, is_store_error

log = logging.getLogger("jobs")

COMMANDS: dict[str, Command] = {
    command.name: command
    for module in (build_commands, version_commands, answer_commands, export_commands, model_commands, starter_commands)
    for command in module.COMMANDS
}

# The flags that take a path, and the errors of the operating system that another path can avoid.
_PATH_FLAGS = (
    *("workspace", "directory", "config", "events", "items", "ads", "graph", "queries"),
    *("output", "html", "changes", "gexf"),
)
_PATH_ERRORS = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
# The errors of a disk or a network file system that cannot be reached for a while.
_DISK_ERRORS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = Parser(prog="lightsage", description="From raw click logs to a retrieval API for ads.")
    top.add_argument("--version", action="version", version=version_line(), help="print the version, and stop")
    top.add_argument("--verbose", action="store_true", help="log details, and the traceback of an error")
    top.add_argument(
        "--log",
        choices=("plain", "json"),
        default="plain",
        help="format of the log lines; plain lines are coloured on a terminal (default plain)",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        command.add_arguments(commands.add_parser(command.name, help=command.help))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; None = that of this process.

    Returns:
        The exit code.
    """
    # torch and faiss read this variable when they are first imported. On a busy host, threads slow each
    # other down if they spin while they wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    options = parser().parse_args(arguments)
    log_to_stderr(verbose=options.verbose, lines=options.log)
    command = COMMANDS[options.command]
    try:
        return command.run(options)
    except (KeyboardInterrupt, Exception) as error:
        return _report(error, command, options)


def _report(error: BaseException, command: Command, options: argparse.Namespace) -> int:
    """Log an error, with its traceback if the error is unexpected or --verbose is given, and return the exit code."""
    still_served = "; the version served before is still served" if command.publishes else ""
    if is_interrupt(error):
        log.error("interrupted%s", still_served)
        return ExitCode.INTERRUPTED
    code, message = _expected(error, options)
    if code is None or options.verbose:
        log.error("unexpected error%s", still_served, exc_info=error)
    if code is None:
        return ExitCode.FAILED
    log.error("%s", message)
    return code


def _expected(error: BaseException, options: argparse.Namespace) -> tuple[ExitCode | None, str]:
    """Return the exit code and the message of an error; the exit code is None if the error is unexpected."""
    if isinstance(error, OSError) and (message := _path_error(error, options)):
        return ExitCode.WRONG_INPUT, message
    if isinstance(error, OSError) and is_disk_full(error):
        return ExitCode.FAILED, f"{error.filename or 'the disk'}: {error.strerror}; free some space and run again"
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        where = error.filename or getattr(options, "workspace", None) or "a disk"
        return ExitCode.FAILED, f"{where}: {error.strerror}; run again when the disk can be reached"
    if missing := missing_package(error, options.command):
        return ExitCode.WRONG_INPUT, missing
    if _exit_code(error) is None and is_store_error(error):
        error = as_store_error(error, str(getattr(options, "workspace", None) or "an object store"))
    return _exit_code(error), str(error)


def _path_error(error: OSError, options: argparse.Namespace) -> str | None:
    """Return the message for an error about a path from the command line; None for any other error."""
    if error.filename is None or error.errno not in _PATH_ERRORS:
        return None
    path = Path(os.fsdecode(error.filename)).absolute()
    flags: list[tuple[str, str | Path]] = []
    for flag in _PATH_FLAGS:
        value = getattr(options, flag, None)
        flags += [(flag, part) for part in (value if isinstance(value, list) else [value] if value else [])]
    flags.sort(key=lambda pair: Path(pair[1]).absolute() != path)  # exact matches come before folders above or below
    for flag, value in flags:
        flag_path = Path(value).absolute()
        # The error's path may lie inside the flag's path, or it may be a folder above, which cannot be created.
        if path.is_relative_to(flag_path) or flag_path.is_relative_to(path):
            where = "" if path == flag_path else f" ({path})"
            return f"--{flag} {value} cannot be used: {error.strerror}{where}"
    return None


def _exit_code(error: BaseException) -> ExitCode | None:
    """Return the exit code of an error that was raised on purpose; None for any other error."""
    from graph_build.errors import SparkJobError
    from jobs.errors import (
        GateError,
        JobError,
        StoreError,
        StoreUnreachableError,
        WorkspaceBusyError,
        WorkspaceFullError,
    )

    if isinstance(error, GateError):
        return ExitCode.REFUSED
    if isinstance(error, WorkspaceBusyError):
        return ExitCode.BUSY
    if isinstance(error, SparkJobError | WorkspaceFullError | StoreUnreachableError):
        return ExitCode.FAILED
    # Errors of the other packages are recognised by the names of their modules, so that none is imported only for this.
    rooms = {"graph_build.errors", "model.errors", "retrieval.errors"}
    if isinstance(error, JobError | StoreError) or type(error).__module__ in rooms:
        return ExitCode.WRONG_INPUT
    return None


if __name__ == "__main__":
    sys.exit(main())
