"""A server with fixed answers, to test programs that speak HTTP, and a function that runs these programs."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class StubServer:
    """A running server: its URL, the requests so far (method, path, body), and the statuses that it has sent."""

    url: str = ""
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


@contextmanager
def stub_server(*answers: tuple[int, bytes]) -> Iterator[StubServer]:
    """Serve the answers (status, body) one after the other, then the last one again and again."""
    stub = StubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            stub.requests.append((self.command, self.path, body))
            status, answer = answers[min(len(stub.requests), len(answers)) - 1]
            stub.statuses.append(status)
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST = do_DELETE = respond  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


def run_without_proxy(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program without any proxy settings, so that it can reach servers of this machine."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(command, env=environment | variables, capture_output=True, text=True, check=False, timeout=60)
