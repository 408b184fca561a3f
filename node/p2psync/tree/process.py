"""Processes that work in a tree beside this one: started with as little as they need, each at the other end
of a pair of sockets.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from typing import Final

import p2psync

_PACKAGE: Final = p2psync.__path__[0]
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; from importlib import import_module; "
    "import_module(sys.argv[1]).main(int(sys.argv[2]))"
)
"""Run without ``site`` and the environment (-I -S), which takes half the time, but with the path of this
process: so it is the same p2psync, wherever that was found.
"""


def start_process(
    module: str, *, inherited: Collection[int] = (), blocked: Collection[signal.Signals] = ()
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start ``main(channel)`` of a module of p2psync in a process of its own; returns it and this end of the
    socket. It is not waited for. Raises OSError if it cannot be started.

    It has a group of its own, so that a Ctrl-C at the terminal does not reach it. ``inherited``:
    descriptors that it has as well. ``blocked``: signals that are blocked there until it deals with them.
    """
    # The last one for installations that are found by other means than the path.
    path = [*(each for each in sys.path if isinstance(each, str)), os.path.dirname(_PACKAGE)]
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # Of this thread, hence of what it starts.
    try:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, module, str(theirs.fileno()), *path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *inherited],
                process_group=0,
            )
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process, ours
