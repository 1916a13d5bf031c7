"""What a process keeps, counted by the pages that the system gives it."""

import subprocess
import sys

import pytest

COUNT = """
import resource
import torch
from skelcl.nn.memory import keep_freed_memory

def pages():
    for lap in range(40):
        if lap == 30:  # the heap has settled
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(64 << 18)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
given = pages()
keep_freed_memory()
print(given, pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_freed_memory_is_used_again():
    told = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    given, kept = map(int, told.split())
    assert given > 10 * (60 << 20) / 65536, "ten times 64 MB, in pages of 64 kB at most"
    assert kept < given / 10
