"""``skelcl`` as a trial of a sweep: ends, with all its processes, when the sweep does, however that ends."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def end_with_the_sweep() -> None:
    """Wait for the end of the sweep that started this process, then end with the whole group."""
    # Nothing is ever written to this pipe. Its other end closes when the sweep stops the trial, or is killed itself.
    os.read(sys.stdin.fileno(), 1)
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # the sweep made this process the leader of a group: other ranks end too
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_the_sweep, daemon=True).start()
    runpy.run_module("skelcl", run_name="__main__", alter_sys=True)
