"""Commands that are run before and after an update: when, with what, and what comes of those that fail."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from p2psync.errors import DeleteLimitError, HookError, NetworkError, P2psyncError
from p2psync.fetch import hooks as module
from p2psync.fetch.hooks import OUTPUT_MAX, VARIABLES, Argv, Hooks, Updated, with_hooks
from p2psync.fetch.options import FetchSummary
from p2psync.format.url import ArchiveUrl

ARCHIVE = bytes(range(32))


def script(text: str) -> Argv:
    return (sys.executable, "-c", text)


class Bench:
    """A mirror that is updated between commands, and what was heard of it."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.directory = bytes(folder / "mirror \udcff")
        self.warnings: list[str] = []
        self.details: list[str] = []
        self.summary = FetchSummary(ARCHIVE, seq=8)
        self.error: P2psyncError | None = None
        self.updates = 0

    def notes(self, name: str, code: int = 0) -> Argv:
        """A command that notes what it was told."""
        return script(
            f"import os, sys; told = {{k: v for k, v in os.environ.items() if k in {VARIABLES!r}}}\n"
            f"open({str(self.log)!r}, 'a').write(repr(({name!r}, told)) + '\\n'); sys.exit({code})"
        )

    @property
    def noted(self) -> list[tuple[str, dict[str, str]]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [eval(line) for line in lines]  # noqa: S307 - written by `notes`

    async def run(self, hooks: Hooks) -> FetchSummary:
        async def update() -> FetchSummary:
            self.updates += 1
            if self.error is not None:
                raise self.error
            return self.summary

        mirror = Updated(ARCHIVE, self.directory, 7)
        return await with_hooks(hooks, mirror, update, self.warnings.append, self.details.append)

    def all_three(self) -> Hooks:
        return Hooks(self.notes("before"), self.notes("after"), self.notes("failed"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_update_runs_between_the_command_before_and_the_one_after(bench: Bench) -> None:
    bench.summary.changed, bench.summary.received = 3, 1000
    assert await bench.run(bench.all_three()) is bench.summary
    (first, before), (second, after) = bench.noted
    assert (first, second, bench.updates) == ("before", "after", 1)
    about = {"P2PSYNC_ARCHIVE": str(ArchiveUrl(ARCHIVE)), "P2PSYNC_DIR": os.fsdecode(bench.directory)}
    assert before == about | {"P2PSYNC_HOOK": "before", "P2PSYNC_SEQ": "7"}
    assert after == about | {
        "P2PSYNC_HOOK": "after",
        "P2PSYNC_SEQ": "8",
        "P2PSYNC_RESULT": "changed",
        "P2PSYNC_EXIT": "0",
        "P2PSYNC_CHANGED": "3",
        "P2PSYNC_DELETED": "0",
        "P2PSYNC_RECEIVED": "1000",
    }
    assert bench.warnings == []


async def test_where_nothing_had_changed_the_command_after_is_told_so(bench: Bench) -> None:
    await bench.run(bench.all_three())
    assert bench.noted[1][1]["P2PSYNC_RESULT"] == "unchanged"


async def test_where_the_command_before_fails_nothing_is_updated_and_no_other_is_run(bench: Bench) -> None:
    fails = script("import sys; print('the disk is not mounted'); sys.exit(3)")
    with pytest.raises(
        HookError, match=r"'before'.* ended with 3 .the disk is not mounted.; nothing was upd"
    ):
        await bench.run(bench.all_three()._replace(before=fails))
    assert (bench.updates, bench.noted) == (0, [])


@pytest.mark.parametrize("argv", [("/no such program",), ("/",), ("a\0b",)])
async def test_a_command_that_cannot_be_started_has_failed(bench: Bench, argv: Argv) -> None:
    with pytest.raises(HookError, match="could not be started"):
        await bench.run(Hooks(before=argv))
    assert bench.updates == 0
    await bench.run(Hooks(after=argv))
    assert "could not be started" in bench.warnings[0]


@pytest.mark.parametrize(
    ("error", "result", "code"),
    [
        (NetworkError("nobody\nanswers \x1b[31m"), "failed", "10"),
        (DeleteLimitError("too much"), "refused", "25"),
    ],
)
async def test_an_update_that_fails_is_followed_by_the_command_for_that(
    bench: Bench, error: P2psyncError, result: str, code: str
) -> None:
    bench.error = error
    with pytest.raises(type(error)):
        await bench.run(bench.all_three())
    name, told = bench.noted[1]
    assert (name, told["P2PSYNC_RESULT"], told["P2PSYNC_EXIT"]) == ("failed", result, code)
    assert told["P2PSYNC_SEQ"] == "7"
    assert told["P2PSYNC_ERROR"].isprintable()


async def test_an_update_that_is_not_complete_has_failed(bench: Bench) -> None:
    bench.summary.missing = [b"x"]
    assert not (await bench.run(bench.all_three())).complete
    name, told = bench.noted[1]
    assert (name, told["P2PSYNC_RESULT"], told["P2PSYNC_EXIT"]) == ("failed", "partial", "23")


async def test_a_command_afterwards_that_fails_is_told_and_changes_nothing(bench: Bench) -> None:
    assert await bench.run(Hooks(after=bench.notes("after", 1))) is bench.summary
    assert "'after'" in bench.warnings[0] and "ended with 1" in bench.warnings[0]


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.2)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    slow = script(
        f"import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"open({str(bench.log)!r}, 'w').write(str(child.pid))\ntime.sleep(1000)"
    )
    with pytest.raises(HookError, match="longer than 1 seconds"):
        await bench.run(Hooks(before=slow, timeout=1.0))
    assert bench.updates == 0
    pid = int(bench.log.read_text())
    async with asyncio.timeout(30):
        while _runs(pid):  # noqa: ASYNC110 - a process that is not ours
            await asyncio.sleep(0.01)


def _runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_an_update_that_is_stopped_leaves_no_command_running(bench: Bench) -> None:
    waits = script(
        f"import os, time; open({str(bench.log)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
    )
    task = asyncio.create_task(bench.run(Hooks(before=waits)))
    async with asyncio.timeout(30):
        while not (bench.log.exists() and bench.log.read_text()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
    pid = int(bench.log.read_text())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not _runs(pid)


async def test_output_is_told_as_far_as_there_is_room_and_nothing_of_it_is_obeyed(bench: Bench) -> None:
    loud = script("print('one\\x1b[31m'); print('two'); print('x' * 200_000)")
    await bench.run(Hooks(after=loud))
    assert bench.details[0].startswith("hook after: one")
    assert all(line.isprintable() for line in bench.details)
    assert sum(map(len, bench.details)) < OUTPUT_MAX + 200


async def test_what_a_command_leaves_running_is_not_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    child = "import time; time.sleep(5)"
    await bench.run(
        Hooks(after=script(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"))
    )
    assert bench.warnings == []


async def test_no_shell_looks_at_a_command(bench: Bench, tmp_path: Path) -> None:
    await bench.run(Hooks(after=("/bin/echo", f"; touch {tmp_path / 'made'}")))
    assert not (tmp_path / "made").exists()
    assert "touch" in bench.details[0]


async def test_without_commands_nothing_is_run(bench: Bench) -> None:
    assert await bench.run(Hooks()) is bench.summary
