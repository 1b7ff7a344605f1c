"""A Hub on loopback: enough of its protocol for the Hub's client, and ways to go wrong."""

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
    """`files` maps "owner/name/file" to content; the rest are ways to go wrong, and what was asked for.

    `cut_after` breaks the next transfer off after so many bytes; `truncate` announces the full length but sends less,
    every time; `ignores_ranges` always sends from the start; `tag` replaces the hash of the content as its ETag.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    truncate: int = 0
    ignores_ranges: bool = False
    tag: str | None = None
    ranges: list[str] = field(default_factory=list)
    gets: list[str] = field(default_factory=list)
    endpoint: str = ""


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        content = self._content()
        if content is not None:
            self._head(content)

    def do_GET(self) -> None:
        content = self._content()
        if content is None:
            return
        hub = self.hub
        hub.gets.append(self.path)
        wanted = self.headers.get("Range")
        if wanted:
            hub.ranges.append(wanted)
        heeded = "" if wanted is None or hub.ignores_ranges else wanted.removeprefix("bytes=")
        first, _, last = heeded.partition("-")
        start, end = int(first or 0), int(last or len(content) - 1) + 1
        self._head(content, (start, end) if heeded else None)
        stop = min(end, len(content)) - hub.truncate
        if hub.cut_after is not None:
            stop, hub.cut_after = min(stop, start + hub.cut_after), None
        self.wfile.write(content[start:stop])
        self.wfile.flush()
        if stop < min(end, len(content)):
            self.close_connection = True

    def _content(self) -> bytes | None:
        repository, _, file = self.path.strip("/").partition("/resolve/")
        content = self.hub.files.get(f"{repository}/{file.partition('/')[2]}")
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
        return content

    def _head(self, content: bytes, part: tuple[int, int] | None = None) -> None:
        start, end = part or (0, len(content))
        self.send_response(206 if part else 200)
        self.send_header("ETag", f'"{self.hub.tag or hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(min(end, len(content)) - start))
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
