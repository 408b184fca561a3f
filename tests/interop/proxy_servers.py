"""Proxies as Debian has them, each for one test, on loopback at an address of the test's own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.help.places import own_host
from tests.help.waiting import until
from tests.node.wire_support import program


class Squid(NamedTuple):
    """A squid that runs. ``folder`` may be read by the user that it becomes."""

    address: str
    folder: Path

    @property
    def log(self) -> str:
        """What it was asked for."""
        return (self.folder / "access").read_text()


@contextmanager
def squid_at(
    port: int,
    *,
    host: str = "",
    within: Sequence[str] = (),
    extra: Callable[[Path], str] | None = None,
) -> Iterator[Squid]:
    """squid, set up as its package has it: CONNECT to port 443 alone, others' requests handed on. ``extra``:
    lines of its configuration before those that allow anything, where its folder is this. ``within``: words
    before the command, such as those that lead into a namespace.
    """
    squid = program("squid", "squid-openssl")
    where = f"{host or own_host()}:{port}"
    with tempfile.TemporaryDirectory(prefix="p2psync-squid-") as made:  # It becomes the user proxy.
        path = Path(made)
        path.chmod(0o777)
        (path / "conf").write_text(
            f"http_port {where}\npid_filename {path}/pid\ncache deny all\ncoredump_dir {path}\n"
            f"access_log stdio:{path}/access\ncache_log {path}/log\nshutdown_lifetime 0 seconds\n"
            "pinger_enable off\nvisible_hostname squid.test\n"
            f"{extra(path) if extra else ''}\n"
            "acl tls port 443\nacl CONNECT method CONNECT\n"
            "http_access deny CONNECT !tls\nhttp_access allow all\n"
        )
        with _running([*within, squid, "-N", "-f", path / "conf"], where, within):
            yield Squid(where, path)


@contextmanager
def tinyproxy_at(path: Path, port: int, extra: str = "") -> Iterator[str]:
    """tinyproxy that makes tunnels to port 443 alone; its HOST:PORT. It ends each connection after one
    request. ``extra``: lines of its configuration.
    """
    tinyproxy = program("tinyproxy", "tinyproxy")
    path.mkdir()
    (path / "conf").write_text(
        f"Port {port}\nListen {own_host()}\nTimeout 60\nMaxClients 50\nConnectPort 443\n"
        f'LogFile "{path}/log"\n{extra}\n'
    )
    with _running([tinyproxy, "-d", "-c", path / "conf"], f"{own_host()}:{port}"):
        yield f"{own_host()}:{port}"


@contextmanager
def microsocks_at(
    port: int, *, host: str = "", within: Sequence[str] = (), login: tuple[str, str] | None = None
) -> Iterator[str]:
    """microsocks, which speaks SOCKS5; its HOST:PORT. ``within``: as for squid."""
    microsocks = program("microsocks", "microsocks")
    words = [] if login is None else ["-u", login[0], "-P", login[1]]
    where = host or own_host()
    with _running([*within, microsocks, "-i", where, "-p", str(port), *words], f"{where}:{port}", within):
        yield f"{where}:{port}"


@contextmanager
def _running(command: list[str | Path], where: str, within: Sequence[str] = ()) -> Iterator[None]:
    host, _, port = where.rpartition(":")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}
    )

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
        knock = [*within, "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
        return subprocess.run(knock, check=False, capture_output=True).returncode == 0

    try:
        until(answers, f"{command[0]} listens")
        yield
    finally:
        process.terminate()
        process.wait(20)
