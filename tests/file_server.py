"""An HTTP server of one file on loopback, as reliable as the test wants it."""

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FileServer:
    """Serves `content` at every path, with ranges and an ETag (RFC 9110), and notes the requests' headers."""

    content: bytes
    etag: str = '"1"'
    ranges: bool = True
    conditions: bool = True
    """Whether If-Range is heeded."""
    break_after: list[int] = field(default_factory=list)
    """For the next answers: bytes of the body after which the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """For the next answers: statuses without a body that is of use."""
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    """Bytes of the bodies in all."""

    def __enter__(self) -> "FileServer":
        server = self

        class Handler(_Handler):
            file = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/archive.zip"

    @property
    def asked_ranges(self) -> list[str | None]:
        """The header Range of each request."""
        return [headers.get("range") for headers in self.requests]


class _Handler(BaseHTTPRequestHandler):
    file: FileServer

    def do_GET(self) -> None:
        file = self.file
        file.requests.append({name.lower(): value for name, value in self.headers.items()})
        if file.statuses:
            return self._answer(file.statuses.pop(0), b"<html>sorry</html>")
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if file.ranges else None
        same = self.headers.get("If-Range", file.etag) == file.etag or not file.conditions
        if match and same:
            start = int(match[1])
            if start >= len(file.content):
                return self._answer(416, b"", {"Content-Range": f"bytes */{len(file.content)}"})
            last = len(file.content) - 1
            content_range = {"Content-Range": f"bytes {start}-{last}/{len(file.content)}"}
            return self._answer(206, file.content[start:], content_range)
        return self._answer(200, file.content)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.file.etag:
            self.send_header("ETag", self.file.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status < 300 and self.file.break_after:
            body = body[: self.file.break_after.pop(0)]
            self.close_connection = True
        self.file.sent += len(body)
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass
