"""An S3 server on loopback (moto's), and faults that are put between it and whoever asks."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY_ID = "AKIALOOPBACKEXAMPLE7"
SECRET = "wJalrXUtnFEMI/K7MDENG+loopbackSECRET"
BUCKET = "corpus"
_SIGNED = {  # which the server does not check; without any, it refuses to replace objects
    "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=x"
}


class Handler(BaseHTTPRequestHandler):
    """Passes requests on, unless a fault answers them."""

    protocol_version = "HTTP/1.1"
    store: S3

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.body()
        store = self.store
        store.requests.append((self.command, self.path, self.headers.get("Range")))
        fault = store.fault
        if fault is not None and fault(self, body):
            return
        self.reply(*self.passed_on(body))

    def body(self) -> bytes:
        """Read what came with a request, and say how long it is."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        body = b"".join(parts)
        del self.headers["Transfer-Encoding"]
        del self.headers["Content-Length"]
        self.headers["Content-Length"] = str(len(body))
        return body

    def passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return what the server says to a request: status, headers, content."""
        connection = http.client.HTTPConnection("127.0.0.1", self.store.behind, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        response = connection.getresponse()
        content = response.read()
        headers = dict(response.getheaders())
        connection.close()
        return response.status, headers, content

    def reply(
        self, status: int, headers: dict[str, str], content: bytes, cut: int | None = None
    ) -> None:
        """Send an answer; with ``cut`` only so many bytes of its content, and then hang up."""
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "server"):
                self.send_header(name, value)
        size = len(content)
        if self.command == "HEAD":
            size = int({n.lower(): v for n, v in headers.items()}.get("content-length", 0))
        self.send_header("Content-Length", str(size))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        if cut is not None:
            self.hang_up()

    def hang_up(self) -> None:
        """Cut the connection."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.busy = threading.Semaphore(0)
        self.begun = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.begun += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.busy.release()

    def wait(self) -> None:
        """Wait until nothing is being answered, so that no test finds threads of another."""
        for _ in range(self.begun):
            self.busy.acquire(timeout=10)
        self.begun = 0

    def handle_error(self, *_: Any) -> None:
        """Say nothing of connections that were cut on purpose."""


Fault = Callable[[Handler, bytes], bool]


def refusing(status: int) -> Fault:
    def fault(handler: Handler, _: bytes) -> bool:
        body = f"<Error><Code>No</Code><Message>{SECRET} {KEY_ID}</Message></Error>".encode()
        handler.reply(status, {"Content-Type": "application/xml", "x-amz-id-2": SECRET}, body)
        return True

    return fault


def cutting(handler: Handler, body: bytes) -> bool:
    status, headers, content = handler.passed_on(body)
    handler.reply(status, headers, content, cut=len(content) // 2)
    return True


def hanging_up(handler: Handler, _: bytes) -> bool:
    handler.hang_up()
    return True


def silent(handler: Handler, _: bytes) -> bool:
    time.sleep(2.5)
    handler.hang_up()
    return True


def dripping(handler: Handler, body: bytes) -> bool:
    if handler.command == "HEAD":
        return False
    status, headers, content = handler.passed_on(body)
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for byte in content[:60]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)
    handler.hang_up()
    del headers
    return True


FAULTS: dict[str, Fault] = {
    "403": refusing(403),
    "503": refusing(503),
    "500": refusing(500),
    "cut": cutting,
    "hung up": hanging_up,
    "silent": silent,
    "dripping": dripping,
}


class S3:
    """A bucket on loopback.

    Attributes
    ----------
    requests : list of (method, path, range)
        What was asked, in order.
    fault : callable or None
        Gets each request; returns whether it has answered it.
    """

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.requests: list[tuple[str, str, str | None]] = []
        self.fault: Fault | None = None
        handler = type("Bound", (Handler,), {"store": self})
        self._server = Server(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What the library of the store reads."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": "us-east-1",
        }

    def ask(self, method: str, key: str = "", body: bytes | None = None) -> tuple[int, bytes]:
        """Ask the server itself, past all faults."""
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=30)
        connection.request(method, f"/{BUCKET}/{key}".rstrip("/"), body, _SIGNED)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, content

    def put(self, key: str, content: bytes | Path) -> str:
        """Write an object and return its URI."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        status, answer = self.ask("PUT", key, data)
        assert status == 200, (status, answer)
        return f"s3://{BUCKET}/{key}"

    def names(self) -> list[str]:
        """Return the names of all objects."""
        listed = self.ask("GET", "?list-type=2")[1].decode()
        return [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]

    def clear(self) -> None:
        """Remove all objects and faults, and wait for requests that were given up."""
        self.fault = None
        for thread in threading.enumerate():
            if thread.name.startswith("binq-store"):
                thread.join(60)
        self._server.wait()
        for key in self.names():
            self.ask("DELETE", key)
        self.requests.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_s3() -> Iterator[S3]:
    """Run a server with one empty bucket."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1"]
    process = subprocess.Popen(
        [*command, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"},
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, "moto's server did not start: make setup installs it"
                time.sleep(0.05)
        store = S3(port)
        assert store.ask("PUT")[0] == 200
        yield store
        store.close()
    finally:
        process.kill()
        process.wait()
