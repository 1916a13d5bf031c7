"""How a program ends when SIGINT or SIGTERM asks it to: soon, with one line, and with exit code 128 + signal.

The signal raises :class:`Interrupted` in the main thread, so that files are closed and half-written ones removed. A
thread of its own looks after the rest: the main thread may hang in a collective operation whose other processes are
gone, and the processes that a distributed run started have to end with it, whichever of them got the signal.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
POLL_SECONDS = 0.25
"""Seconds between two looks of the thread."""
REPEAT_SECONDS = 1.0
"""Seconds within which a second signal is the first one again, as it reached another process of the run."""
HANG_SECONDS = 3.0
"""Seconds after which a main thread that has not noticed the signal hangs."""
CLOSING_SECONDS = 8.0
"""Seconds that closing files may take."""
FIRST = "SKELCL_FIRST_PROCESS"
"""Environment variable that tells the processes of a distributed run which process started them."""
RERUN_HINT = "the same command does it anew"


class Interrupted(SystemExit):
    """A signal ended the program; its ``code`` is 128 + the signal, as shells have it."""


class Program:
    """The running program and the signal that it got."""

    def __init__(self) -> None:
        self.signal = 0
        self.ranks: list[subprocess.Popen[bytes]] = []
        self._first: int | None = None
        self._since, self._noticed, self._running, self._printed = 0.0, False, False, False
        self._places: list[Callable[[], str]] = []
        self._how = RERUN_HINT
        self._before: dict[int, signal._HANDLER] = {}
        self._thread: threading.Thread | None = None
        self._pipe = (-1, -1)

    def run(self, function: Callable[[], object]) -> None:
        """Run a function as the whole of the program.

        Args:
            function: What the program does. Called in the main thread.

        Raises:
            Interrupted: If a signal asked the program to end.
        """
        self._begin()
        try:
            function()
        except BaseException:
            self.leave_with_first()  # what went wrong may be that the others are gone
            if not self.signal:
                raise
        finally:
            if not self.signal:
                self.close()
        if self.signal:  # the thread goes on: leaving may hang, too
            sys.stdout.flush()
            self._tell()
            raise Interrupted(128 + self.signal)

    def take_signals(self) -> None:
        """Answer to signals again, where a library put handlers of its own in the place of these."""
        if self._running:
            for signum in self._before:
                signal.signal(signum, self._notice)

    def end_ranks(self) -> None:
        """End the processes that this one started for a distributed run or to share its work."""
        import multiprocessing

        # Emptied first: Lightning watches the same list, and kills this process when one of those in it has failed.
        ranks, self.ranks[:] = list(self.ranks), []
        for rank in ranks:
            rank.kill()
        for process in multiprocessing.active_children():
            if not process.daemon:
                process.kill()

    def leave_with_first(self) -> None:
        """End silently if the process that started this one is ending: it has printed why."""
        if self._first is not None and self._alone(wait=HANG_SECONDS):
            os._exit(128 + signal.SIGTERM)

    def close(self) -> None:
        """Restore the former signal handlers."""
        self._running = False
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        if self._thread is not None:
            reader, writer = self._pipe
            signal.set_wakeup_fd(-1)
            os.write(writer, b"\0")
            self._thread.join()
            os.close(reader)  # not by the thread, which may end before it is woken
            os.close(writer)

    @contextmanager
    def resumable(self, how: Callable[[], str]) -> Iterator[None]:
        """A block of which the line on an interruption says how to go on; the outermost of several is asked.

        Args:
            how: Gives the end of the line.
        """
        self._places.append(how)
        try:
            yield
        except BaseException:
            if self.signal:
                self._how = how()
            raise
        finally:
            self._places.pop()

    def _begin(self) -> None:
        first = os.environ.get(FIRST)
        rank = os.environ.get("LOCAL_RANK", "0") != "0"
        self._first = int(first) if rank and first == str(os.getppid()) else None
        os.environ[FIRST] = str(os.getpid())
        self._running = True
        # A signal that the caller wants to be ignored, as nohup and `&` do, stays ignored.
        self._before = {one: signal.getsignal(one) for one in SIGNALS if signal.getsignal(one) != signal.SIG_IGN}
        self.take_signals()
        if os.name == "posix":
            reader, writer = self._pipe = os.pipe()
            os.set_blocking(writer, False)
            # Python notes here which signal came as soon as it comes, whatever the main thread does.
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            os.register_at_fork(after_in_child=self._forget)
            self._thread = threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True)
            self._thread.start()

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        """The handler, in the main thread."""
        if self._first is not None:
            return  # the thread told the first process, which ends this one; until then the run needs it
        if self._noticed:
            if time.monotonic() - self._since > REPEAT_SECONDS:
                self._leave()
            return
        self._noticed = True
        self._arrive(signum)
        self.end_ranks()
        raise Interrupted(128 + self.signal)

    def _arrive(self, signum: int) -> None:
        if not self.signal:
            self._since = time.monotonic()
            self.signal = signum

    def _watch(self, reader: int) -> None:
        """The thread."""
        while self._running:
            if select.select([reader], [], [], POLL_SECONDS)[0]:
                for signum in os.read(reader, 64):
                    if signum not in self._before:
                        continue
                    if self._first is None:
                        self._arrive(signum)
                    elif not self._alone():
                        os.kill(self._first, signum)
            if self._first is not None and self._alone():
                os._exit(128 + signal.SIGTERM)
            waited = time.monotonic() - self._since if self.signal else 0.0
            if waited > CLOSING_SECONDS or (waited > HANG_SECONDS and not self._noticed):
                self._leave()

    def _alone(self, wait: float = 0.0) -> bool:
        """Whether the process that started this one has ended, or does so within some seconds."""
        late = time.monotonic() + wait
        while os.getppid() == self._first and time.monotonic() < late:
            time.sleep(POLL_SECONDS / 5)
        return os.getppid() != self._first

    def _tell(self) -> None:
        if self._printed:
            return
        self._printed = True
        how = self._places[0]() if self._places else self._how
        line = f"skelcl: error: interrupted by {signal.Signals(self.signal).name}: {how}\n"
        os.write(2, line.encode())  # whatever the main thread is writing at the moment

    def _leave(self) -> None:
        """End now."""
        self.end_ranks()
        self._tell()
        os._exit(128 + self.signal)

    def _forget(self) -> None:
        """In a forked process, which its parent ends when it has to."""
        if self._running:
            self._running = False
            signal.set_wakeup_fd(-1)
            for signum in self._before:
                signal.signal(signum, signal.SIG_IGN if signum == signal.SIGINT else signal.SIG_DFL)


PROGRAM = Program()
"""This process, for whatever has to know of the signal."""


def end_with(alive: Connection) -> None:
    """End this process when another one ends or closes its side of a pipe; initialises workers of a pool.

    Args:
        alive: The reading side of a pipe that nothing is written to.
    """

    def wait() -> None:
        alive.poll(None)
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all, and the parent answers
    threading.Thread(target=wait, daemon=True).start()
