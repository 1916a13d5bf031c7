"""Mutated files of every kind end in a result or in one clean line.

Every case follows from its kind and number alone. ``SKELCL_FUZZ_COUNT=1000000 pytest -m slow tests/test_fuzz.py`` runs
a campaign; with ``SKELCL_FUZZ_STATE=FILE`` it continues where it stopped and leaves its figures there, and
``SKELCL_FUZZ_KINDS=store,sgn`` chooses kinds. ``SKELCL_FUZZ_CASE=store:4711`` makes ``test_one_case`` run that case.
"""

import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from fuzzing.targets import KINDS

from skelcl.errors import InputError

pytestmark = pytest.mark.posix("the system limits time and memory of a case")

SECONDS, MEMORY = 20, 6 << 30
"""What one case may take."""


class Overtime(BaseException):
    """A case that does not end; no reader may swallow it."""


def overtime(*told):
    raise Overtime


def run_case(target, kind, number):
    """``read`` or ``refused``, else the exception."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        target(random.Random(f"{kind}:{number}"))
    except InputError as error:
        return (
            "refused"
            if str(error).count("\n") == 0 and len(str(error)) < 4000
            else AssertionError(f"no line: {error}"[:300])
        )
    except Overtime as error:
        return error
    except Exception as error:
        return error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read"


def campaign(folder, count, state_file=None, kinds=tuple(KINDS), stop_at=None):
    """Runs ``count`` cases of all kinds, without those that an earlier run did; failures by kind and number."""
    state = {"done": {}, "outcomes": {}, "seconds": 0.0, "failures": [], "peak_mb": 0}
    if state_file is not None and state_file.is_file():
        state = json.loads(state_file.read_text())
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, hard))
    before = signal.signal(signal.SIGALRM, overtime)
    targets = {}
    for kind in kinds:
        (folder / kind).mkdir(exist_ok=True)
        targets[kind] = KINDS[kind][0](folder / kind)
    total = {kind: -(-count * KINDS[kind][1] // 100) for kind in kinds}
    try:
        for share in range(1, 101):  # all kinds move on together, and figures are kept now and then
            for kind in kinds:
                start, outcomes = time.perf_counter(), Counter(state["outcomes"].get(kind, {}))
                for number in range(state["done"].get(kind, 0), total[kind] * share // 100):
                    outcome = run_case(targets[kind], kind, number)
                    if not isinstance(outcome, str):
                        state["failures"].append([kind, number, f"{type(outcome).__name__}: {str(outcome)[:200]}"])
                        outcome = type(outcome).__name__
                    outcomes[outcome] += 1
                    state["done"][kind] = number + 1
                state["outcomes"][kind] = dict(outcomes)
                state["seconds"] += time.perf_counter() - start
                state["peak_mb"] = max(state["peak_mb"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
                if state_file is not None:
                    state_file.with_suffix(".tmp").write_text(json.dumps(state, indent=1))
                    os.replace(state_file.with_suffix(".tmp"), state_file)
    finally:
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return state


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_mutated_files_end_in_a_result_or_one_line(tmp_path):
    count = int(os.environ.get("SKELCL_FUZZ_COUNT", "3000"))
    state_file = os.environ.get("SKELCL_FUZZ_STATE")
    kinds = tuple(os.environ.get("SKELCL_FUZZ_KINDS", ",".join(KINDS)).split(","))
    state = campaign(tmp_path, count, None if state_file is None else Path(state_file), kinds)
    print(json.dumps({key: state[key] for key in ("done", "outcomes", "seconds", "peak_mb")}))
    assert not state["failures"], "\n".join(f"{kind} {number}: {told}" for kind, number, told in state["failures"][:20])
    for kind in kinds:
        assert min(state["outcomes"][kind].get(name, 0) for name in ("read", "refused")), (
            f"{kind}: nothing was told apart"
        )


def test_one_case(tmp_path):
    kind, _, number = os.environ.get("SKELCL_FUZZ_CASE", "store:0").partition(":")
    with contextlib.suppress(InputError):
        KINDS[kind][0](tmp_path)(random.Random(f"{kind}:{number}"))
