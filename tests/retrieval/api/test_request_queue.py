"""The queue takes one request of each peer in turn, and bounds their number and their wait."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

from retrieval.api.request_queue import RequestQueue


@dataclass
class Server:
    """Records which requests are begun and which are turned away."""

    queue: RequestQueue
    begun: list[str] = field(default_factory=list)
    turned_away: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, peer: str, n: int, since: float | None = None, wait: bool = False) -> None:
        name = f"{peer}{n}"

        async def answer() -> None:
            if wait:
                await self.release.wait()

        def begin() -> None:
            self.begun.append(name)
            task = asyncio.get_running_loop().create_task(answer())
            self.queue.begun.add(task)
            task.add_done_callback(self.queue.begun.discard)

        arrived = asyncio.get_running_loop().time() if since is None else since
        turn_away = partial(self.turned_away.append, name)
        self.queue.add(SimpleNamespace(peer=peer, arrived=arrived, begin=begin, turn_away=turn_away))


def run(limit: int, seconds: float, steps: Callable[[Server], Awaitable[None]]) -> Server:
    async def main() -> Server:
        server = Server(RequestQueue(limit, seconds))
        await steps(server)
        for _ in range(100):
            await asyncio.sleep(0)
        return server

    return asyncio.run(main())


def test_a_request_is_begun_at_once_if_none_waits() -> None:
    async def steps(server: Server) -> None:
        server.send("a", 1)
        assert server.begun == ["a1"]

    assert len(run(9, 1.0, steps).queue) == 0


def test_peers_take_turns() -> None:
    async def steps(server: Server) -> None:
        for n in range(4):
            server.send("a", n)
        server.send("b", 0)
        server.send("b", 1)
        server.send("c", 0)

    assert run(9, 1.0, steps).begun == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]


def test_above_the_limit_the_last_of_the_longest_line_is_turned_away() -> None:
    async def steps(server: Server) -> None:
        for n in range(7):
            server.send("a", n)
        server.send("b", 0)
        server.send("b", 1)
        server.send("a", 7)

    server = run(5, 1.0, steps)
    assert server.turned_away == ["a5", "a6", "a4", "a3", "a7"]
    assert server.begun == ["a0", "a1", "b0", "a2", "b1"]


def test_a_request_that_waited_too_long_is_turned_away() -> None:
    async def steps(server: Server) -> None:
        server.send("a", 0)
        server.send("a", 1, since=asyncio.get_running_loop().time() - 2.0)
        server.send("a", 2)

    server = run(9, 1.0, steps)
    assert (server.begun, server.turned_away) == (["a0", "a2"], ["a1"])


def test_requests_that_are_being_answered_count() -> None:
    async def steps(server: Server) -> None:
        for n in range(3):
            server.send("a", n, wait=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert len(server.queue) == 2
        assert server.turned_away == ["a2"]
        server.release.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        server.send("a", 3)

    assert run(2, 1.0, steps).begun == ["a0", "a1", "a3"]
