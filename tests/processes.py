"""Programs that tests start in a session of their own, and what is left of them."""

import signal
import time
from pathlib import Path


def allow():
    """The tests themselves may be running where a shell has switched SIGINT off."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(condition, seconds=100):
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late
        time.sleep(0.02)


def session(leader):
    """Processes of a session that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found
