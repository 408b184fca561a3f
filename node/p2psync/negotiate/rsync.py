"""What the real rsync is asked about a server: the heads that may lie there, and what the server says.

rsync runs as a child, with nothing but what is named here on its command line, within bounds of time and
size that do not depend on what the server sends. A server may send links, other names than it was asked for,
files without an end, or a message of the day without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from p2psync.errors import FileError, NetworkError
from p2psync.negotiate.mapping import TEXT_MAX
from p2psync.negotiate.origin import HEAD_NAMES, Kind, Origin
from p2psync.network.egress import RSYNC as PROXIES
from p2psync.network.egress import egress
from p2psync.network.proxy import Kind as ProxyKind
from p2psync.rsync.program import RSYNC, find_rsync

HEAD_MAX: Final = 4096
"""Bytes of a file that is looked at as a head, of which none has more than 450."""
FILE_BLOCKS: Final = 128
"""Blocks of 512 bytes, or of 1,024 in some shells, beyond which rsync is not let to write a file (ulimit -f):
--max-size trusts the server's word."""
CONNECT_TIMEOUT: Final = 5
IDLE_TIMEOUT: Final = 10
"""Seconds, as whole numbers: rsync's --contimeout and --timeout."""
ALL_SECONDS: Final = 20.0
"""Seconds for one question, connection and answer included, whatever the server does."""
ERRORS_MAX: Final = 4096
"""Bytes of rsync's own messages that are read."""
_ANSWERED: Final = frozenset({0, 23, 24})
"""Exit codes of rsync with which it has spoken with the module (rsync(1), EXIT VALUES)."""
LIMITED: Final = ("/bin/sh", "-c", 'ulimit -f "$1" || exit 1; shift; exec "$@"', "sh", str(FILE_BLOCKS))


class Ran(NamedTuple):
    """What came of a child."""

    code: int
    out: bytes
    errors: str


def program_for(origin: Origin) -> str | None:
    """The path of the program that speaks with such a server; None where it is not installed."""
    return find_rsync("rsync-ssl" if origin.kind is Kind.RSYNCS else RSYNC)


def environment_for(origin: Origin) -> dict[str, str]:
    """The environment for an rsync that asks a server: it knows one kind of proxy (rsync(1), RSYNC_PROXY).

    Raises NetworkError: a proxy is to be used that rsync cannot use, so it is not run.
    """
    environment = {name: value for name, value in os.environ.items() if name not in PROXIES}
    proxy = egress().rsync_proxy(origin.host, origin.port)
    if proxy is None:
        return environment
    if proxy.kind is not ProxyKind.HTTP or origin.kind is Kind.RSYNCS:
        program = "rsync-ssl" if origin.kind is Kind.RSYNCS else "rsync"
        raise NetworkError(
            f"{origin.server} is not asked: {program} cannot use the proxy {proxy}; name the server in "
            "$no_proxy if it is to be reached without"
        )
    login = f"{os.fsdecode(proxy.user)}:{os.fsdecode(proxy.password)}@" if proxy.user else ""
    return environment | {"RSYNC_PROXY": f"{login}{proxy.address}"}


async def heads(origin: Origin) -> dict[bytes, bytes]:
    """What lies where a head would, by the directory that would be the archive's root: one connection.

    Raises NetworkError: the server did not answer, or has no such module.
    """
    urls = [origin.url(os.path.join(level, name)) for level in origin.levels() for name in HEAD_NAMES]
    with _folder() as folder:
        ran = await _ask(
            origin,
            "-tR",
            "--ignore-missing-args",
            f"--max-size={HEAD_MAX}",
            "--",
            *urls,
            f"{folder}/",
        )
        found: dict[bytes, bytes] = {}
        for level in origin.levels():
            below = level.partition(b"/")[2]  # Names are the module's own.
            for name in HEAD_NAMES:
                raw = read_small(os.fsencode(folder), os.path.join(below, name))
                if raw is not None:
                    found.setdefault(level, raw)
    if not found and ran.code not in _ANSWERED:
        raise NetworkError(f"{origin.server} did not answer: {ran.errors or f'rsync ended with {ran.code}'}")
    return found


async def listing(origin: Origin) -> str:
    """What the server says when it is asked for its modules: the message of the day, then a line for each
    module, ``NAME<TAB>COMMENT``. Of a longer text, its beginning. Raises NetworkError.
    """
    ran = await _ask(origin, "--", origin._replace(user="").url(b""), motd=True)
    if not ran.out and ran.code:
        raise NetworkError(
            f"{origin.server} lists no modules: {ran.errors or f'rsync ended with {ran.code}'}"
        )
    return ran.out.decode("utf-8", "replace")


async def _ask(origin: Origin, *words: str, motd: bool = False) -> Ran:
    program = program_for(origin)
    if program is None:
        raise NetworkError(f"{origin.server} cannot be asked: rsync is not installed here")
    # rsync-ssl(1): a connection by another program has no --contimeout.
    waits = [f"--timeout={IDLE_TIMEOUT}"]
    waits += [f"--contimeout={CONNECT_TIMEOUT}"] if origin.kind is not Kind.RSYNCS else []
    quiet = [] if motd else ["--no-motd"]
    environment = environment_for(origin)
    return await run([*LIMITED, program, *quiet, *waits, *words], ALL_SECONDS, environment)


async def run(argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None) -> Ran:
    """Run a child to its end, or for so long, and read a bounded part of what it says. ``environment``: in
    place of this process's own. Raises NetworkError: it did not end; FileError: it cannot be started.
    """
    async with _started(argv, environment) as process:
        assert process.stdout is not None and process.stderr is not None  # noqa: S101 - they are pipes
        try:
            async with asyncio.timeout(seconds):
                out, errors = await asyncio.gather(
                    _some(process, process.stdout, TEXT_MAX), _some(process, process.stderr, ERRORS_MAX)
                )
                code = await process.wait()
        except TimeoutError:
            raise NetworkError(f"rsync did not come to an end in {seconds:.0f} seconds") from None
    lines = errors.decode("utf-8", "replace").splitlines()
    return Ran(code, out, next((line.strip() for line in lines if line.strip()), ""))


@contextlib.asynccontextmanager
async def _started(
    argv: Sequence[str], environment: Mapping[str, str] | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child in a session of its own, without a terminal to ask for a password; it does not outlive the
    block, nor do its children.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=environment,
        )
    except OSError as error:
        raise FileError(f"{argv[0]} cannot be run: {error.strerror}") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            _kill(process)
            assert process.stdout is not None and process.stderr is not None  # noqa: S101 - they are pipes
            # The end of a child is not noticed before that of its pipes.
            await asyncio.gather(_rest(process.stdout), _rest(process.stderr))
            await process.wait()


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _some(process: asyncio.subprocess.Process, stream: asyncio.StreamReader, most: int) -> bytes:
    """What a child says there, or the first ``most`` bytes of it, with which it is ended."""
    made = bytearray()
    while piece := await stream.read(most):
        made += piece
        if len(made) > most:
            _kill(process)
            await _rest(stream)
    return bytes(made[:most])


async def _rest(stream: asyncio.StreamReader) -> None:
    while await stream.read(TEXT_MAX):
        pass


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder of this user's alone, removed afterwards."""
    try:
        with tempfile.TemporaryDirectory(prefix="p2psync-", ignore_cleanup_errors=True) as made:
            yield os.path.realpath(made)
    except OSError as error:
        raise FileError(f"a temporary folder cannot be used: {error.strerror}; set $TMPDIR") from error


def read_small(folder: bytes, name: bytes) -> bytes | None:
    """A small regular file below ``folder``, no link and behind none; None where there is none."""
    path = os.path.join(folder, name)
    if os.path.realpath(path) != path:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        small = stat.S_ISREG(status.st_mode) and status.st_size <= HEAD_MAX
        return os.read(fd, HEAD_MAX) if small else None
    finally:
        os.close(fd)
