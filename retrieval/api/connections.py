"""All connections of a server: how many there may be, how long each may take, and how much they may hold in memory."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from enum import Enum
from typing import Protocol

from retrieval.api.telemetry import Metrics
from retrieval.config import ServeConfig

_LINGER_SECONDS = 2.0
_MAX_LINGERING = 256


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "the next request"
    HEAD = "the rest of a request's head"
    BODY = "the rest of a request's body"
    APP = "its turn, or the app"
    LINGERING = "the client, to read a refusal and close"


class Limited(Protocol):
    """What `Connections` needs of a connection."""

    peer: str
    held: int

    @property
    def is_busy(self) -> bool:
        """Whether a request waits for its turn or is being answered."""
        ...

    def refuse(self, status: int, detail: str) -> None:
        """Answer with an error and close."""
        ...

    def unsent(self) -> int:
        """Return the number of bytes that the client has not taken yet."""
        ...

    def close(self) -> None:
        """Close once all that was written is sent."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Connections:
    """The open connections of a server by phase, and within a phase in the order in which they entered it.

    Only the event loop's thread may use it.

    Args:
        config: the limits.
        metrics: where refusals are counted.
    """

    def __init__(self, config: ServeConfig, metrics: Metrics) -> None:
        self._config, self.metrics = config, metrics
        self._phases: dict[Phase, OrderedDict[Limited, float]] = {phase: OrderedDict() for phase in Phase}
        self._of_peer: Counter[str] = Counter()
        self._stalled: OrderedDict[Limited, float] = OrderedDict()
        self._held = 0
        self.stopping = False
        self._seconds = {
            Phase.IDLE: config.idle_seconds,
            Phase.HEAD: config.head_seconds,
            Phase.BODY: config.body_seconds,
            Phase.LINGERING: _LINGER_SECONDS,
        }

    def __len__(self) -> int:
        """Return the number of open connections."""
        return sum(map(len, self._phases.values()))

    def add(self, connection: Limited) -> str | None:
        """Take in a new connection. If the server has too many, close the one that has been idle longest.

        Returns:
            Why the new connection is refused; None if it is accepted. In either case, remove it once it is closed.
        """
        n, idle = len(self), self._phases[Phase.IDLE]
        self._of_peer[connection.peer] += 1
        why = None
        if self._of_peer[connection.peer] > self._config.max_connections_per_peer:
            why = f"{connection.peer} has {self._config.max_connections_per_peer} connections, which is the limit"
        elif n >= self._config.max_connections:
            if (oldest := next((one for one in idle if not one.is_busy), None)) is not None:
                self._drop(oldest)
            else:
                why = f"{n} connections are open, which is this server's limit"
        idle[connection] = self._now()
        return why

    def remove(self, connection: Limited) -> None:
        """Forget a connection that is closed."""
        for of_phase in self._phases.values():
            of_phase.pop(connection, None)
        self._stalled.pop(connection, None)
        self.hold(connection, 0)
        self._of_peer[connection.peer] -= 1
        if self._of_peer[connection.peer] <= 0:
            del self._of_peer[connection.peer]

    def enter(self, connection: Limited, before: Phase, phase: Phase) -> None:
        """Move a connection from one phase to another; its time in the phase begins now."""
        self._phases[before].pop(connection, None)
        of_phase = self._phases[phase]
        of_phase[connection] = self._now()
        if phase is Phase.LINGERING and len(of_phase) > _MAX_LINGERING:
            next(iter(of_phase)).abort()

    def hold(self, connection: Limited, n_bytes: int) -> None:
        """Note how many of the bytes that a connection has received are not handed to the app yet.

        If all connections together hold too much, those that hold most are refused or cut off.
        """
        self._held += n_bytes - connection.held
        connection.held = n_bytes
        while self._held > self._config.max_buffered_bytes:
            every = ((phase, one) for phase, of_phase in self._phases.items() for one in of_phase)
            phase, largest = max(every, key=lambda pair: pair[1].held)
            if not largest.held:
                return
            if phase in (Phase.HEAD, Phase.BODY):
                largest.refuse(
                    503, "unfinished requests fill the memory that this server has for them; try again later"
                )
            else:
                largest.abort()
            self.hold(largest, 0)

    def watch_unsent(self, connection: Limited) -> None:
        """Watch a connection whose client has not taken all of an answer; its time starts anew at each answer."""
        self._stalled[connection] = self._now()
        self._stalled.move_to_end(connection)

    def check(self) -> None:
        """Close connections that have waited too long; to be called several times a second."""
        now = self._now()
        for phase, seconds in self._seconds.items():
            for connection in self._first(self._phases[phase], now - seconds):
                if phase is Phase.IDLE:
                    if not connection.is_busy:
                        self._drop(connection)
                elif phase is Phase.LINGERING:
                    connection.abort()
                else:
                    part = "head" if phase is Phase.HEAD else "body"
                    connection.refuse(408, f"the {part} of the request did not arrive within {seconds:g} s")
        self._check_unsent(now)

    def _check_unsent(self, now: float) -> None:
        total = 0
        for connection in list(self._stalled):
            unsent = connection.unsent()
            if not unsent:
                del self._stalled[connection]
            total += unsent
        for connection in self._first(self._stalled, now - self._config.send_seconds):
            total -= connection.unsent()
            connection.abort()
        while total > self._config.max_buffered_bytes and self._stalled:
            oldest, _ = self._stalled.popitem(last=False)
            total -= oldest.unsent()
            oldest.abort()

    def _drop(self, connection: Limited) -> None:
        if connection.unsent():
            connection.abort()
        else:
            connection.close()
        self._phases[Phase.IDLE].pop(connection, None)

    @staticmethod
    def _first(since: OrderedDict[Limited, float], before: float) -> list[Limited]:
        """Return the connections whose waiting began at or before a time."""
        first = []
        for connection, begin in since.items():
            if begin > before:
                break
            first.append(connection)
        return first

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def peer_of(client: tuple[str, int] | None) -> str:
    """Return the peer that a connection counts for: its IPv4 address, or the /64 network of its IPv6 address.

    >>> peer_of(("2001:db8::1", 4711))
    '2001:db8::/64'
    """
    if client is None:
        return ""
    address = client[0].partition("%")[0]
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address
