"""Notices that another version is published than the one that is served: a server keeps what it loaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Published:
    """The name of the published version; each change of what is to be said about it is one log line."""

    def __init__(self, current: Callable[[], str]) -> None:
        self._current = current
        self._said = ""

    def look(self, served: str) -> str | None:
        """Read the name now; None when it cannot be read, which must not fail what is loaded."""
        name, say = None, ""
        try:
            name = self._current()
            if name != served:
                say = f"version {name} is published, but {served} is served: restart the server to serve it"
        except Exception as error:  # a workspace may be away, or damaged, in any way
            say = f"which version is published cannot be read ({error}); {served} is served on"
        if say != self._said:
            if say:
                _log.warning("%s", say)
            else:
                _log.info("version %s, which is served, is the published one again", served)
            self._said = say
        return name

    async def watch(self, served: str, seconds: float) -> None:
        """Look again and again, in a thread, so that no request waits for the workspace."""
        while True:
            await asyncio.to_thread(self.look, served)
            await asyncio.sleep(seconds)
