"""The queue of requests that have arrived whole and wait for their turn: bounded in number and in waiting time.

The requests of one peer wait in line. The queue takes one request of each peer in turn, so that a peer with a thousand
connections does not delay a peer with one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Protocol


class Waiting(Protocol):
    """A request that waits.

    Attributes:
        peer: whom it came from.
        arrived: when it arrived, in the event loop's time.
    """

    peer: str
    arrived: float

    def begin(self) -> None:
        """Answer the request in a task, which is in `RequestQueue.begun` until it ends."""
        ...

    def turn_away(self) -> None:
        """Answer the request with 503."""
        ...


class RequestQueue:
    """Begins requests in turn. Only the event loop's thread may use it.

    Args:
        limit: the largest number of requests that wait or are being answered.
        seconds: the longest wait; a request whose turn comes later is turned away.

    Attributes:
        begun: the tasks of the requests that are being answered.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._lines: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._n_waiting = 0
        self.begun: set[asyncio.Task[None]] = set()
        self._turn_is_set = False

    def __len__(self) -> int:
        """Return the number of requests that wait or are being answered."""
        return self._n_waiting + len(self.begun)

    def add(self, request: Waiting) -> None:
        """Begin a request if none waits and none was begun since the last turn; else let it wait.

        If there are too many, the last request of the longest line is turned away; it may be the new one.
        """
        if not self._turn_is_set and len(self.begun) < self._limit:
            request.begin()
            self._set_turn()
            return
        if len(self) >= self._limit:
            line = max(self._lines.values(), key=len, default=deque[Waiting]())
            if len(line) <= len(self._lines.get(request.peer, ())):
                request.turn_away()
                return
            last = line.pop()
            self._remove_line_if_empty(last.peer)
            self._n_waiting -= 1
            last.turn_away()
        self._lines.setdefault(request.peer, deque()).append(request)
        self._n_waiting += 1
        self._set_turn()

    def _set_turn(self) -> None:
        if not self._turn_is_set:
            self._turn_is_set = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        """Begin a request of the peer whose turn it is.

        Only one request begins: before the next one, the event loop looks for new data, which may come from a peer that
        has waited longer.
        """
        self._turn_is_set = False
        now = asyncio.get_running_loop().time()
        while self._n_waiting:
            peer, line = next(iter(self._lines.items()))
            request = line.popleft()
            self._lines.move_to_end(peer)
            self._remove_line_if_empty(peer)
            self._n_waiting -= 1
            if now - request.arrived <= self._seconds:
                request.begin()
                break
            request.turn_away()
        if self._n_waiting:
            self._set_turn()

    def _remove_line_if_empty(self, peer: str) -> None:
        if not self._lines[peer]:
            del self._lines[peer]
