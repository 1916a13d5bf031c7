"""What SIGINT and SIGTERM do to a program: one line, 128 + signal, nobody left behind; here without PyTorch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import allow, session, wait_for

TOP = Path(__file__).parents[2]
pytestmark = pytest.mark.linux("POSIX signals, and /proc to see who is left")
BOTH = pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
START = """
import ctypes, os, signal, subprocess, sys, threading, time
from pathlib import Path
from skelcl.runs.interruption import PROGRAM, Interrupted

def ready():
    Path("ready").touch()

def sleep():
    ready()
    time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a program in a session of its own, and waits until it has made the file ``ready``."""
    started = []

    def make(code, **variables):
        environment = {**os.environ, "PYTHONPATH": str(TOP), **variables}
        words = [sys.executable, "-c", START + code]
        process = subprocess.Popen(
            words, cwd=tmp_path, env=environment, text=True, preexec_fn=allow, start_new_session=True,
            stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        wait_for((tmp_path / "ready").exists)
        return process

    yield make
    for process in started:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def end(process, kind, line="the same command does it anew", seconds=20):
    """The program must say one line and leave with 128 + signal, and nobody of its session stay."""
    out, told = process.communicate(timeout=seconds)
    assert told == f"skelcl: error: interrupted by {signal.Signals(kind).name}: {line}\n"
    assert process.returncode == 128 + kind
    wait_for(lambda: not session(process.pid), 5)
    return out


@BOTH
def test_a_signal_ends_a_program_with_one_line_and_its_code(start, kind):
    code = """
def work():
    try:
        sleep()
    finally:
        print("files are closed")
PROGRAM.run(work)
"""
    process = start(code)
    process.send_signal(kind)
    assert end(process, kind) == "files are closed\n"


@BOTH
def test_a_program_that_catches_everything_does_not_say_success(start, kind):
    code = """
def work():
    try:
        sleep()
    except BaseException:
        raise RuntimeError("some library's own")
PROGRAM.run(work)
"""
    process = start(code)
    process.send_signal(kind)
    end(process, kind)


@BOTH
def test_two_signals_at_once_are_one_and_a_later_one_ends_at_once(start, kind):
    """A terminal and a launcher both send it; who presses Ctrl-C again does not want to wait."""
    code = """
def work():
    try:
        sleep()
    finally:
        Path("closing").touch()
        time.sleep(60)
PROGRAM.run(work)
"""
    process = start(code)
    folder = Path(f"/proc/{process.pid}/cwd").resolve()
    process.send_signal(kind)
    wait_for((folder / "closing").exists)
    process.send_signal(kind)
    time.sleep(1.2)
    assert process.poll() is None
    process.send_signal(kind)
    end(process, kind, seconds=3)


def test_the_outermost_block_says_how_to_go_on(start):
    code = """
def work():
    with PROGRAM.resumable(lambda: "the whole goes on"), PROGRAM.resumable(lambda: "a part goes on"):
        sleep()
PROGRAM.run(work)
"""
    process = start(code)
    process.send_signal(signal.SIGTERM)
    end(process, signal.SIGTERM, "the whole goes on")


@BOTH
def test_a_main_thread_that_hangs_outside_python_is_ended(start, kind):
    """As in a collective operation whose other processes are gone."""
    code = """
def work():
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex)
    ready()
    library.pthread_mutex_lock(mutex)
PROGRAM.run(work)
"""
    process = start(code)
    time.sleep(0.2)
    process.send_signal(kind)
    end(process, kind, seconds=10)


RANKS = """
def work():
    if os.environ.get("LOCAL_RANK") == "1":
        Path("rank").write_text(str(os.getpid()))
    else:
        os.environ["LOCAL_RANK"] = "0"
        words = [sys.executable, *sys.orig_argv[1:]]
        PROGRAM.ranks.append(subprocess.Popen(words, env={**os.environ, "LOCAL_RANK": "1"}))
        while not Path("rank").exists() or not Path("rank").read_text():
            time.sleep(0.02)
        ready()
    try:
        time.sleep(60)
    finally:
        Path("closed").write_text(Path("closed").read_text() + "x" if Path("closed").exists() else "x")
PROGRAM.run(work)
"""


@BOTH
@pytest.mark.parametrize("whom", ["first", "other", "both"])
def test_whichever_process_of_a_run_gets_the_signal_all_end(start, tmp_path, kind, whom):
    process = start(RANKS)
    other = int((tmp_path / "rank").read_text())
    for pid in {"first": [process.pid], "other": [other], "both": [process.pid, other]}[whom]:
        os.kill(pid, kind)
    end(process, kind, seconds=10)
    assert (tmp_path / "closed").read_text() == "x", "the first process closes its files"


def test_processes_of_a_killed_run_end(start):
    process = start(RANKS)
    assert len(session(process.pid)) == 2
    process.kill()
    wait_for(lambda: not session(process.pid), 10)


def test_a_forked_process_does_not_answer(start):
    """As the workers of a loader, whom the main process ends."""
    code = """
def work():
    child = os.fork()
    if child == 0:
        time.sleep(60)
    Path("rank").write_text(str(child))
    sleep()
PROGRAM.run(work)
"""
    process = start(code)
    child = int((Path(f"/proc/{process.pid}/cwd").resolve() / "rank").read_text())
    os.kill(child, signal.SIGINT)
    time.sleep(0.3)
    assert len(session(process.pid)) == 2
    os.kill(child, signal.SIGTERM)
    wait_for(lambda: len(session(process.pid)) == 1)
    assert process.poll() is None


def test_what_the_caller_ignores_stays_ignored(start):
    """As for what a shell has put in the background."""
    process = start("signal.signal(signal.SIGINT, signal.SIG_IGN)\nPROGRAM.run(sleep)")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None


def test_a_library_is_left_alone():
    """Whoever calls functions of skelcl in a program of his own keeps its signals."""
    code = "import signal; old = signal.getsignal(signal.SIGTERM); from skelcl.cli import run; run(['--version'])"
    code += "; assert signal.getsignal(signal.SIGTERM) is old; assert signal.set_wakeup_fd(-1) == -1"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_program_that_ends_while_its_thread_looks_ends_well(start):
    """The thread sees that the program is over before it is told."""
    process = start("""
def wait(signum, handler, change=signal.signal):
    PROGRAM._thread.join(5)
    return change(signum, handler)

def body():
    ready()
    signal.signal = wait

open_before = len(os.listdir("/proc/self/fd"))
PROGRAM.run(body)
print(len(os.listdir("/proc/self/fd")) - open_before)
""")
    assert process.communicate(timeout=30) == ("0\n", "")
    assert process.returncode == 0
