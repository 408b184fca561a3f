"""One circumstance on one file system for one program: a source, a destination, and what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tests.circumstances.limits import DEADLINE, PLAIN_USER
from tests.circumstances.places import command
from tests.help.places import own_host

SAID_LINES: Final = 3
"""Lines of what a program said that are kept for the table."""
PROJECT: Final = Path(__file__).parents[2]
RSYNC_PORT: Final = 8873


@dataclass
class Outcome:
    """What a program left and said."""

    code: int
    said: list[str]
    wrong: list[str] = field(default_factory=list)
    """Paths that are not as in the source, as rsync itemizes them."""

    @property
    def undone(self) -> frozenset[str]:
        """Those that should be there otherwise. What stays and should go is not among them: of a mount point
        rsync removes what it can, which is no merit.
        """
        return frozenset(line.split(" ", 1)[1] for line in self.wrong if not line.startswith("*deleting"))


class Stage:
    """Where a circumstance is set up."""

    def __init__(self, folder: Path, place: Path, *, plain: bool) -> None:
        self.source = folder / "source"
        self.work = place
        """The file system that DEST is on."""
        self.dest = place / "dest"
        self.plain = plain
        """Whether the program runs as a plain user."""
        self.no_modes = False
        """Whether the file system has no modes."""
        self.delete = False
        self.limit = 0
        """Bytes that a file may have at most (setrlimit(2)); 0: as many as the file system allows."""
        self.checks_space = True
        """Whether p2psync is to look for room before it begins."""
        self.stack = contextlib.ExitStack()
        """What is to be undone in the end."""
        self.mark = os.fsencode(f" {os.path.basename(folder)}")
        self.source.mkdir()
        self.dest.mkdir()
        self.own(self.dest)

    def own(self, path: Path) -> None:
        """Give what the program is to own to the user that it runs as."""
        if self.plain:
            with contextlib.suppress(OSError):
                os.chown(path, PLAIN_USER, PLAIN_USER, follow_symlinks=False)

    def write(self, name: str, text: str | bytes = "text", *, mode: int = 0o644) -> Path:
        """A file of the source."""
        return self._file(self.source / name, text, mode)

    def there(
        self, name: str, text: str | bytes = "text", *, mode: int = 0o644, foreign: bool = False
    ) -> Path:
        """A file of DEST; ``foreign``: it is root's."""
        path = self._file(self.dest / name, text, mode)
        if not foreign:
            for each in (path, *path.relative_to(self.dest).parents[:-1]):
                self.own(self.dest / each)
        return path

    def _file(self, path: Path, text: str | bytes, mode: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text.encode() if isinstance(text, str) else text
        path.write_bytes(content + self.mark)  # Nobody else's content: who has it can be asked for it.
        with contextlib.suppress(OSError):
            path.chmod(mode)
        return path

    def flag(self, path: Path, letter: str) -> None:
        """Set an attribute as chattr(1) does, until the end."""
        command("chattr", f"+{letter}", path)
        self.stack.callback(subprocess.run, ["chattr", f"-{letter}", str(path)], capture_output=True)

    def mount(self, path: Path) -> None:
        """Mount an empty file system there, until the end."""
        path.mkdir(parents=True, exist_ok=True)
        command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path)
        self.stack.callback(subprocess.run, ["umount", "-l", str(path)], capture_output=True)
        self.own(path)

    def wrong(self) -> list[str]:
        """What is in DEST other than in the source, as rsync sees it."""
        attributes = "-rltn" if self.no_modes else "-rlptn"
        options = [attributes, "--modify-window=2", "--delete", "--exclude=/.p2psync.partial"]
        options.append("--out-format=%i %n")
        done = subprocess.run(
            ["rsync", *options, f"{self.source}/", f"{self.dest}/"], capture_output=True, check=False
        )
        return done.stdout.decode("utf-8", "backslashreplace").splitlines()


class Program(Protocol):
    """What is run in each circumstance."""

    name: str
    folder: Path

    def run(self, stage: Stage) -> Outcome: ...


class Rsync:
    """rsync, from a daemon that reads as root."""

    name = "rsync"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._address = own_host()  # where nobody else listens, so that any port is free
        self._config = folder / "rsyncd.conf"
        self._config.write_text(
            f"uid = 0\ngid = 0\nuse chroot = no\nport = {RSYNC_PORT}\naddress = {self._address}\n"
            f"[all]\npath = {folder}\nread only = yes\n"
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Rsync]:
        argv = ["rsync", "--daemon", "--no-detach", f"--config={self._config}"]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as daemon:
            try:
                yield self
            finally:
                daemon.terminate()

    def _run(self, argv: Sequence[str], stage: Stage) -> Outcome:
        words = list(argv)
        if stage.plain:
            ids = (f"--reuid={PLAIN_USER}", f"--regid={PLAIN_USER}", "--clear-groups")
            words = ["setpriv", *ids, *words]
        if stage.limit:
            words = ["prlimit", f"--fsize={stage.limit}", *words]
        try:
            done = subprocess.run(words, capture_output=True, timeout=DEADLINE, check=False, cwd="/")
        except subprocess.TimeoutExpired:
            return Outcome(-1, ["it hung"])
        text = (done.stderr or b"").decode("utf-8", "backslashreplace")
        return Outcome(done.returncode, text.strip().splitlines())

    def run(self, stage: Stage) -> Outcome:
        inside = stage.source.relative_to(self.folder)
        url = f"rsync://{self._address}:{RSYNC_PORT}/all/{inside}/"
        options = ["-rlpt", *(["--delete"] if stage.delete else [])]
        return self._run(["rsync", *options, url, f"{stage.dest}/"], stage)


class P2psync:
    """p2psync: published by root, served by one node; each circumstance has a state directory of its own.

    Commands run in forks of one process that has the modules loaded, as starting Python would take most of
    the time.
    """

    name = "p2psync"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._origin = folder / "origin"
        self._address = ""
        self._runner: subprocess.Popen[str] | None = None
        self._known: set[Path] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator[P2psync]:
        node = [sys.executable, "-m", "p2psync", "node", "--state", str(self._origin)]
        runner = [sys.executable, "-m", "tests.circumstances.runner"]
        with (
            subprocess.Popen(
                [*node, "--listen", "127.0.0.1:0", "--json"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as serving,
            subprocess.Popen(
                runner, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
            ) as self._runner,
        ):
            try:
                assert serving.stdout is not None
                lines = map(json.loads, serving.stdout)
                self._address = next(event["listen"] for event in lines if event["event"] == "ready")
                self._warm_up()
                yield self
            finally:
                serving.terminate()
                self._runner.kill()

    def _command(self, *words: object, plain: bool = False, limit: int = 0) -> Outcome:
        assert self._runner is not None
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        asked = {"argv": [str(word) for word in words], "plain": plain, "limit": limit}
        self._runner.stdin.write(json.dumps(asked) + "\n")
        self._runner.stdin.flush()
        answer = json.loads(self._runner.stdout.readline())
        return Outcome(answer["code"], answer["said"].strip().splitlines())

    def _warm_up(self) -> None:
        """Let the runner load what a fetch by root loads, with files of all kinds."""
        folder = self.folder / "warm"
        folder.mkdir()
        stage = Stage(folder, folder, plain=False)
        stage.write("small", "small")
        stage.write("large", b"large" * 60_000)
        (stage.source / "link").symlink_to("small")
        stage.delete = True
        for text in ("old", "new"):
            stage.there("gone/file")
            stage.write("small", text)
            self.run(stage)

    def _published(self, stage: Stage) -> Outcome:
        """Publish a stage's tree, the first time under a new key: trees of one kind look like each other, and
        one that looks like another which is gone is taken for that one, moved.
        """
        key = []
        if stage.source not in self._known:
            made = self._command("key", "new", "--state", self._origin, "--json")
            key = ["--archive", json.loads(made.said[-1])["archive"]]
            self._known.add(stage.source)
        return self._command("publish", stage.source, *key, "--state", self._origin, "-q", "--json")

    def run(self, stage: Stage) -> Outcome:
        published = self._published(stage)
        url = json.loads(published.said[-1])["archive"]
        state = stage.source.parent / "state"
        state.mkdir(exist_ok=True)
        stage.own(state)
        options = ["-q", "--no-share", *(["--delete"] if stage.delete else [])]
        options += [] if stage.checks_space else ["--no-check-space"]
        where = [url.split("?")[0], stage.dest, "--source", self._address, "--state", state]
        return self._command("fetch", *where, *options, plain=stage.plain, limit=stage.limit)


def clean(path: Path) -> None:
    """Remove what a circumstance left."""
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["rm", "-rf", str(path)], capture_output=True, check=False)
