"""How much memory Python objects and arrays take inside a block."""

import tracemalloc
from contextlib import contextmanager


@contextmanager
def memory_below(limit):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
