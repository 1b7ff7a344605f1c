"""A Hub on loopback: enough of its protocol for `hf_hub_download`, and ways to go wrong."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class LoopbackHub:
    """`files` maps "owner/name/file" to content. `cut_after` breaks the next transfers off after so many bytes;
    `truncate` says a full length but sends less, every time. `ranges` and `gets` record what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    truncate: int = 0
    ranges: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    endpoint: str = ""


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def _content(self) -> bytes | None:
            repository, _, file = self.path.strip("/").partition("/resolve/")
            return hub.files.get(f"{repository}/{file.partition('/')[2]}")

        def _head(self, content: bytes, status: int = 200, start: int = 0) -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()

        def _missing(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_HEAD(self) -> None:
            content = self._content()
            if content is None:
                self._missing()
            else:
                self._head(content)

        def do_GET(self) -> None:
            content = self._content()
            if content is None:
                self._missing()
                return
            hub.gets.append(self.path)
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            if wanted:
                hub.ranges.append(wanted)
            self._head(content, 206 if wanted else 200, start)
            stop = len(content) - hub.truncate
            if hub.cut_after is not None:
                stop, hub.cut_after = min(stop, start + hub.cut_after), None
            self.wfile.write(content[start:stop])
            self.wfile.flush()
            if stop < len(content):
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
