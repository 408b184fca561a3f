"""Several processes and threads on one state directory: no corruption, nobody finds it locked."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.help.descriptors import open_below
from tests.help.waiting import PATIENCE

from p2psync.errors import BusyError, FileError
from p2psync.state import FileRow, State

WRITER = """
import sys
from pathlib import Path
from p2psync.state import FileRow, State
with State.open(Path(sys.argv[1])) as state:
    print(state.identity().public_key.hex())
    tree = state.trees.ensure(b"/t", "publish", None)
    for turn in range(40):
        with state.transaction():
            known = state.trees.files_in(tree.id, b"count")
            number = known[b"n"].size if known else 0
            state.trees.put_files(tree.id, b"count", [FileRow(b"n", number + 1, 0, 0, 0, b"")])
        state.trees.put_files(tree.id, sys.argv[2].encode(), [FileRow(b"%d" % turn, 1, 1, 1, 1, b"d" * 32)])
"""


def test_processes_and_threads_write_at_once(tmp_path: Path) -> None:
    # The directory does not exist yet: its creation is raced for as well.
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "s"), str(n)], stdout=subprocess.PIPE)
        for n in range(4)
    ]
    with State.open(tmp_path / "s") as state:
        tree = state.trees.ensure(b"/t", "publish", None)

        def write(number: int) -> None:
            for turn in range(40):
                row = FileRow(b"%d" % turn, 1, 1, 1, 1, b"e" * 32)
                state.trees.put_files(tree.id, b"thread%d" % number, [row])

        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        outputs = [process.communicate()[0] for process in running]
        for thread in threads:
            thread.join()
        assert [process.returncode for process in running] == [0] * 4
        assert set(outputs) == {state.identity().public_key.hex().encode() + b"\n"}
        assert state.trees.files_in(tree.id, b"count")[b"n"].size == 4 * 40
        for number in range(4):
            assert len(state.trees.files_in(tree.id, b"%d" % number)) == 40
            assert len(state.trees.files_in(tree.id, b"thread%d" % number)) == 40
        check = state._db.connection.execute("PRAGMA integrity_check").fetchone()
        assert check == ("ok",)


def test_data_version_tells_of_other_writers(tmp_path: Path) -> None:
    with State.open(tmp_path) as ours, State.open(tmp_path) as theirs:
        before = ours.data_version()
        assert ours.data_version() == before
        theirs.trees.ensure(b"/t", "publish", None)
        after = ours.data_version()
        assert after != before
        ours.trees.ensure(b"/u", "publish", None)
        assert ours.data_version() != after


def test_lock_excludes_and_names_its_holder(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from p2psync.state import State\n"
        "state = State.open(Path(sys.argv[1]))\n"
        "with state.lock('x'): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with State.open(tmp_path) as state:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(FileError, match=rf"process {holder.pid}\b"), state.lock("x"):
                pass
            with state.lock("y"):
                pass
            holder.kill()
        with state.lock("x"), pytest.raises(FileError), state.lock("x"):
            pass
        with pytest.raises(ValueError, match="cannot name"), state.lock("../x"):
            pass


def test_a_lock_is_waited_for_as_long_as_somebody_is_patient(tmp_path: Path) -> None:
    with State.open(tmp_path) as state:
        taken = threading.Event()

        def take() -> None:
            with state.lock("x", patience=PATIENCE):
                taken.set()

        waiting = threading.Thread(target=take)
        with state.lock("x"):
            waiting.start()
            with pytest.raises(BusyError), state.lock("x", patience=0):
                pass
            assert not taken.is_set()
        waiting.join()
        assert taken.is_set()


def test_a_closed_state_says_so(tmp_path: Path) -> None:
    state = State.open(tmp_path)
    state.close()
    with pytest.raises(FileError, match="closed"):
        state.trees.all()


def test_what_threads_have_used_is_closed_with_the_state_though_they_live_on(tmp_path: Path) -> None:
    """Else the log of the index would stay beside it, and what is in the index could not be relied on."""
    state = State.open(tmp_path)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(state.trees.all).result()
        state.close()
        assert open_below(tmp_path) == []
        assert not list(tmp_path.glob("index.sqlite-*"))
        with pytest.raises(FileError, match="closed"):
            threads.submit(state.trees.all).result()


READS_WHILE_IT_IS_CLOSED = """
import sys, threading
from pathlib import Path
from p2psync.errors import FileError
from p2psync.state import State
state = State.open(Path(sys.argv[1]))
begun, closed = threading.Event(), threading.Event()

def wait() -> int:
    begun.set()
    closed.wait()
    return 1

def read() -> None:
    connection = state._db.connection
    connection.create_function("wait", 0, wait)
    print("read", connection.execute("SELECT wait() + 1 UNION ALL SELECT 3").fetchall())
    try:
        state.trees.all()
    except FileError as error:
        print(error)

reader = threading.Thread(target=read)
reader.start()
begun.wait()
state.close()
closed.set()
reader.join()
"""


def test_a_state_that_is_closed_under_a_reader_lets_it_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READS_WHILE_IT_IS_CLOSED, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "read [(2,), (3,)]" in done.stdout
    assert "closed" in done.stdout
