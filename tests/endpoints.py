"""A server on loopback that stands in for an endpoint of embeddings."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DIM = 16


def vector_of(text: str) -> list[float]:
    """Stand in for a model: float32 numbers that depend on the text alone."""
    seed = int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "little") + len(text)
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32).tolist()


def dripping(head: bytes, drop: bytes, pause: float = 0.02) -> Callable[[Any], None]:
    """Return a fault that sends the head of an answer, and then drops until nobody listens."""

    def drip(handler: Any) -> None:
        handler.close_connection = True
        handler.wfile.write(head)
        try:
            while True:
                handler.wfile.write(drop)
                time.sleep(pause)
        except OSError:
            return

    return drip


class FakeEndpoint:
    """A server on loopback that speaks both protocols and can be told to misbehave.

    ``faults`` are consumed one per request: (status, headers, body), or a callable that gets the
    handler and does what it likes.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Any] = []
        self.models = ["fake"]
        self.listing: Any = None
        self.reshape: Callable[[Any], Any] = lambda answer: answer
        self.no_base64 = False
        self.refused: str | None = None
        self.max_batch = 1000
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def send(self, status: int, document: Any, headers: dict[str, str]) -> None:
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                endpoint.headers.append(dict(self.headers))
                if callable(endpoint.listing):
                    endpoint.listing(self)
                elif self.path == "/v1/models" and endpoint.listing is not None:
                    self.send(200, endpoint.listing, {})
                elif self.path == "/v1/models":
                    self.send(200, {"data": [{"id": name} for name in endpoint.models]}, {})
                else:
                    self.send(404, {"error": {"message": "no such page"}}, {})

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(data)
                endpoint.requests.append(request)
                endpoint.headers.append(dict(self.headers))
                if endpoint.faults:
                    fault = endpoint.faults.pop(0)
                    if callable(fault):
                        fault(self)
                    else:
                        self.send(fault[0], fault[2], fault[1])
                    return
                texts = request.get("input") or request.get("texts")
                if endpoint.refused in texts:
                    message = f"{endpoint.refused} is too long"
                    self.send(400, {"error": {"message": message}}, {})
                elif len(texts) > endpoint.max_batch:
                    self.send(413, {"error": "too many"}, {})
                elif self.path == "/v1/embeddings":
                    self.openai(request, texts)
                elif self.path == "/v2/embed":
                    self.cohere(request, texts)
                else:
                    self.send(404, {"error": {"message": "no such page"}}, {})

            def openai(self, request: Any, texts: list[str]) -> None:
                coded = request.get("encoding_format") == "base64"
                if coded and endpoint.no_base64:
                    self.send(400, {"error": {"message": "encoding_format is not known"}}, {})
                    return
                data = []
                for index, text in enumerate(texts):
                    row: Any = vector_of(text)
                    if coded:
                        row = base64.b64encode(np.array(row, "<f4").tobytes()).decode()
                    data.append({"object": "embedding", "index": index, "embedding": row})
                self.send(200, endpoint.reshape({"data": data[::-1]}), {})

            def cohere(self, request: Any, texts: list[str]) -> None:
                (kind,) = request["embedding_types"]
                rows: Any = [vector_of(request["input_type"] + text) for text in texts]
                if kind == "ubinary":
                    rows = np.packbits(np.array(rows) > 0, axis=1).tolist()
                self.send(200, endpoint.reshape({"embeddings": {kind: rows}}), {})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{self.root}/v1"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
