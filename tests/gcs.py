"""A bucket of Google Cloud Storage on loopback: as much of its JSON interface as binq asks for.

Run as a program, this module is the server: pyarrow's client may keep all threads of its process
from running while it waits. Objects are files of a folder, which the tests share.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "corpus"
_TIME = "2026-01-01T00:00:00Z"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: GCS

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        if status := self.store.fault:
            self.reply(status, b"{}")
        else:
            self.route(asked.path, query, body)

    def route(self, path: str, query: dict[str, str], body: bytes) -> None:
        objects, bucket = self.store.objects, f"/storage/v1/b/{BUCKET}"
        if path == f"/upload{bucket}/o" and self.command == "POST":
            name = query.get("name") or json.loads(body)["name"]
            where = f"http://{self.headers['Host']}/session?upload_id={len(self.store.sessions)}"
            self.store.sessions.append((name, bytearray()))
            self.reply(200, b"", {"Location": where})
        elif path == "/session":
            name, held = self.store.sessions[int(query["upload_id"])]
            held += body
            if self.headers["Content-Range"].endswith("/*"):
                self.reply(308, b"", {"Range": f"bytes=0-{len(held) - 1}"} if held else {})
                return
            objects[name] = bytes(held)
            self.described(name)
        elif path == bucket:
            self.reply(200, json.dumps({"kind": "storage#bucket", "name": BUCKET}).encode())
        elif path == f"{bucket}/o":
            items = [
                self.about(name)
                for name in sorted(objects)
                if name.startswith(query.get("prefix", ""))
            ]
            self.reply(200, json.dumps({"kind": "storage#objects", "items": items}).encode())
        else:
            name = unquote(path.removeprefix(f"{bucket}/o/").removeprefix(f"/{BUCKET}/"))
            if name not in objects:
                self.reply(404, b"{}")
            elif self.command == "DELETE":
                del objects[name]
                self.reply(204, b"")
            elif path.startswith(bucket) and query.get("alt") != "media":
                self.described(name)
            else:
                self.content(objects[name])

    def about(self, name: str) -> dict[str, Any]:
        size = len(self.store.objects[name])
        about = {"kind": "storage#object", "bucket": BUCKET, "name": name, "size": str(size)}
        return about | {"generation": "1", "updated": _TIME, "timeCreated": _TIME, "etag": "e"}

    def described(self, name: str) -> None:
        self.reply(200, json.dumps(self.about(name)).encode())

    def content(self, data: bytes) -> None:
        span = self.headers.get("Range")
        if not span:
            self.reply(200, data)
            return
        low, _, high = span.removeprefix("bytes=").partition("-")
        first, last = int(low), min(int(high or len(data) - 1), len(data) - 1)
        where = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        self.reply(206, data[first : last + 1], where)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815


class Objects(MutableMapping[str, bytes]):
    """Objects by their names, as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, name: str) -> Path:
        return self._folder / quote(name, safe="")

    def __getitem__(self, name: str) -> bytes:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            raise KeyError(name) from None

    def __setitem__(self, name: str, data: bytes) -> None:
        self._path(name).write_bytes(data)

    def __delitem__(self, name: str) -> None:
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return map(unquote, os.listdir(self._folder))

    def __len__(self) -> int:
        return len(os.listdir(self._folder))


class GCS:
    """A bucket.

    Attributes
    ----------
    objects : Objects
    sessions : list of (str, bytearray)
        Uploads, and how much of them is there; known to the server alone.
    """

    def __init__(self, folder: Path, port: int) -> None:
        (folder / "objects").mkdir(exist_ok=True)
        self.objects = Objects(folder / "objects")
        self.sessions: list[tuple[str, bytearray]] = []
        self._fault = folder / "fault"
        self._options = f"?endpoint_override=127.0.0.1:{port}&scheme=http&anonymous=true"

    @property
    def fault(self) -> int:
        """The status with which everything is answered; 0: as asked."""
        return int(self._fault.read_text()) if self._fault.exists() else 0

    @fault.setter
    def fault(self, status: int) -> None:
        self._fault.write_text(str(status))

    def uri(self, key: str) -> str:
        """Return the URI of an object."""
        return f"gs://{BUCKET}/{key}{self._options}"


@contextmanager
def running_gcs(folder: Path) -> Iterator[GCS]:
    """Run a server with one empty bucket."""
    words = [sys.executable, __file__, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield GCS(folder, int(process.stdout.readline()))
        finally:
            process.kill()


def main() -> None:
    """Serve a folder until killed."""
    handler = type("Bound", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    port = server.server_address[1]
    handler.store = GCS(Path(sys.argv[1]), port)  # type: ignore[attr-defined]
    print(port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
