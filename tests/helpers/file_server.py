"""A small HTTP server on 127.0.0.1 for tests of downloads, which can behave badly."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What a server does with one path.

    cuts: after how many bytes the connection breaks, one number for each of the first answers.
    status: codes of the first answers; 200 gives the file. chunked: does not say the length.
    ranges: whether it can resume. etag, modified: '' sends no such header; silent: not in a resumed answer.
    headers: further ones. announced: a wrong Content-Length. hangs: a cut leaves the connection open.
    """

    content: bytes = b""
    kind: str = "application/zip"
    cuts: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    ranges: bool = True
    chunked: bool = False
    silent: bool = False
    etag: str = '"one"'
    modified: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    announced: int = 0
    hangs: bool = False


class FileServer:
    """Paths and what the server does with them; `asked` lists the Range headers of all requests."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, Behaviour] = {}
        self.asked: list[tuple[str, str]] = []

    def put(self, path: str, content: bytes, **behaviour: object) -> str:
        """Offer a file. Returns: its address."""
        self.files[path] = Behaviour(content, **behaviour)  # type: ignore[arg-type]
        return f"{self.address}/{path}"


@contextmanager
def serve() -> Iterator[FileServer]:
    """Run a server in a thread as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, files)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Print nothing: clients hang up when they have seen enough."""

    with Server(("127.0.0.1", 0), Handler) as server:
        files = FileServer(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield files
        finally:
            server.shutdown()
            thread.join()


def answer(handler: BaseHTTPRequestHandler, files: FileServer) -> None:
    """Answer one request."""
    path = handler.path.lstrip("/")
    files.asked.append((path, handler.headers.get("Range", "")))
    file = files.files.get(path)
    code = file.status.pop(0) if file and file.status else 200
    if file is None or code != 200:
        handler.send_response(code if file else 404)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    body, code = file.content, 200
    asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    same = handler.headers.get("If-Range") in (None, file.etag, file.modified)
    start = int(asked[1]) if asked and file.ranges and same else 0
    if start:
        code = 206 if start < len(file.content) else 416
        body = file.content[start:]
    handler.send_response(code)
    handler.send_header("Content-Type", file.kind)
    if start:
        span = f"{start}-{len(file.content) - 1}" if code == 206 else "*"
        handler.send_header("Content-Range", f"bytes {span}/{len(file.content)}")
    if file.chunked:
        handler.send_header("Transfer-Encoding", "chunked")
    else:
        handler.send_header("Content-Length", str(file.announced or len(body)))
    for name, value in {"ETag": file.etag, "Last-Modified": file.modified, **file.headers}.items():
        if value and not (code == 206 and file.silent):
            handler.send_header(name, value)
    handler.end_headers()
    cut = file.cuts.pop(0) if file.cuts else len(body)
    sent = body[:cut]
    if file.chunked and sent:
        sent = f"{len(sent):x}\r\n".encode() + sent + b"\r\n"
    handler.wfile.write(sent + (b"0\r\n\r\n" if file.chunked and cut >= len(body) else b""))
    while cut < len(body) and file.hangs:
        time.sleep(0.02)
    if cut < len(body) or file.announced:
        handler.close_connection = True
