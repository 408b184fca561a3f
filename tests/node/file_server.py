"""A web server of files in a thread, as mirrors have them, and what some servers and proxies make of it."""

from __future__ import annotations

import gzip
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

HOST = "127.0.0.1"


@dataclass
class Reply:
    """An answer about to be sent; what a twist changes of it is sent as it is then."""

    path: str
    """Below the root, as it was asked for."""
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bytes
    """All of the file."""


Twist = Callable[[Reply], None]


@dataclass
class FileServer:
    """A server that runs."""

    root: Path
    url: str = ""
    twist: Twist | None = None
    asked: list[str] = field(default_factory=list)
    """Paths, as they were asked for."""

    def asked_below(self, prefix: str) -> list[str]:
        return [path for path in self.asked if path.startswith(prefix)]


@contextmanager
def file_server(root: Path, twist: Twist | None = None) -> Iterator[FileServer]:
    """A server of the files below ``root`` at a port of its own."""
    made = FileServer(root, twist=twist)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path.lstrip("/")
            made.asked.append(path)
            reply = _reply(made.root, path, self.headers.get("Range"))
            if made.twist is not None:
                made.twist(reply)
            self.send_response(reply.status)
            reply.headers.setdefault("Content-Length", str(len(reply.body)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.body)
            if int(reply.headers["Content-Length"]) != len(reply.body):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # A client that has enough hangs up.

    server = Server((HOST, 0), Handler)
    made.url = f"http://{HOST}:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _reply(root: Path, path: str, wanted: str | None) -> Reply:
    file = os.path.join(os.fsencode(root), unquote_to_bytes(path))
    if not os.path.isfile(file):
        return Reply(path, 404, {}, b"no such file", b"")
    with open(file, "rb") as stream:
        whole = stream.read()
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
    if match is None:
        return Reply(path, 200, {}, whole, whole)
    first, last = int(match[1]), min(int(match[2]), len(whole) - 1)
    if first > last:
        return Reply(path, 416, {"Content-Range": f"bytes */{len(whole)}"}, b"", whole)
    headers = {"Content-Range": f"bytes {first}-{last}/{len(whole)}"}
    return Reply(path, 206, headers, whole[first : last + 1], whole)


# What servers make of it, and those in between.


def ignores_range(reply: Reply) -> None:
    """206 becomes 200: some proxies, and some servers, know no ranges."""
    if reply.status == 206:
        reply.status, reply.headers, reply.body = 200, {}, reply.whole


def other_range(reply: Reply) -> None:
    """It sends the beginning, and says that it does."""
    if reply.status == 206:
        reply.body = reply.whole[: len(reply.body)]
        reply.headers["Content-Range"] = f"bytes 0-{len(reply.body) - 1}/{len(reply.whole)}"


def senseless_range(reply: Reply) -> None:
    if reply.status == 206:
        reply.headers["Content-Range"] = "bytes 9-3/2"


def lies_about_lengths(reply: Reply) -> None:
    """It promises more than it sends."""
    reply.headers["Content-Length"] = str(len(reply.body) + 1000)


def cuts_off(reply: Reply) -> None:
    """Its files have lost their ends."""
    reply.whole = reply.whole[: len(reply.whole) // 2]
    if reply.status == 200:
        reply.body = reply.whole
    elif reply.status == 206:
        reply.status, reply.headers, reply.body = 416, {}, b""


def wrong_bytes(reply: Reply) -> None:
    """It sends as many bytes, and others."""
    if reply.status in (200, 206):
        reply.body = bytes(byte ^ 1 for byte in reply.body)


def compresses(reply: Reply) -> None:
    """It compresses on the way what nobody asked to be compressed."""
    if reply.status in (200, 206):
        reply.status, reply.body = 200, gzip.compress(reply.whole)
        reply.headers = {"Content-Encoding": "gzip"}


def calls_it_compressed(reply: Reply) -> None:
    """Apache's AddEncoding: what is a .gz is said to be compressed, and is sent as it is."""
    if reply.path.endswith(".gz"):
        reply.headers["Content-Encoding"] = "x-gzip"


def is_a_portal(reply: Reply) -> None:
    """Whatever is asked for, a page comes that wants a login."""
    reply.status, reply.headers, reply.body = 200, {"Content-Type": "text/html"}, b"<html>log in first</html>"


def answers(status: int, **headers: str) -> Twist:
    """Whatever is asked for."""

    def twist(reply: Reply) -> None:
        reply.status, reply.body = status, b""
        reply.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    return twist


def leads_to(url: Callable[[], str], status: int = 302) -> Twist:
    """Whatever is asked for is elsewhere, below that URL."""

    def twist(reply: Reply) -> None:
        reply.status, reply.body = status, b""
        reply.headers = {"Location": url() + reply.path}

    return twist


def names_duplicates(*urls: Callable[[], str]) -> Twist:
    """It says of each file where else it is (RFC 6249)."""

    def twist(reply: Reply) -> None:
        if reply.status in (200, 206):
            links = [f"<{url()}{reply.path}>; rel=duplicate; pri=1; geo=de" for url in urls]
            reply.headers["Link"] = ", ".join([*links, f"<{reply.path}.asc>; rel=describedby"])

    return twist
