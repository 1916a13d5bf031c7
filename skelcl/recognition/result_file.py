"""What was recognised in many clips, on its way into one file: clip by clip, so that none is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from skelcl.errors import OptionError
from skelcl.files import atomic_write

SCHEMA = 1
"""Version of what the file holds; another one where a reader of this one would go wrong."""
ENDINGS = (".json", ".jsonl")


class ResultWriter:
    """Writes JSON with a line for each clip, or JSON lines: the same lines, without what is true of all.

    Args:
        stream: Where to.
        lines: Whether it becomes JSON lines.
    """

    def __init__(self, stream: IO[str], lines: bool) -> None:
        self._stream, self._lines = stream, lines
        self._separator = ""

    def begin(self, about: Mapping[str, Any]) -> None:
        """Write what is true of all clips, before the first of them."""
        if not self._lines:
            head = _json({"schema": SCHEMA, **about}).removesuffix("}")
            self._stream.write(f'{head}, "clips": [\n')

    def add(self, clip: Mapping[str, Any]) -> None:
        """Write what was seen in a clip."""
        if self._lines:
            self._stream.write(_json({"schema": SCHEMA, **clip}) + "\n")
        else:
            self._stream.write(self._separator + _json(clip))
            self._separator = ",\n"

    def end(self, failed: Sequence[Mapping[str, Any]]) -> None:
        """Write which clips failed, after the last of the others."""
        if self._lines:
            for clip in failed:
                self.add(clip)
        else:
            self._stream.write(f'\n], "failed": {_json(failed)}}}\n')


def check_result_file(path: Path) -> None:
    """See that a file can be written.

    Raises:
        OptionError: Its name ends otherwise than in .json or .jsonl.
    """
    if path.suffix.lower() not in ENDINGS:
        raise OptionError(f"{path}: predictions are written to {' or '.join(ENDINGS)}")


@contextmanager
def result_file(path: Path) -> Iterator[ResultWriter]:
    """A block that writes a file, ``.json`` or ``.jsonl``; it takes its name at the end, an error leaves nothing."""
    with atomic_write(path) as part, part.open("w", encoding="utf-8") as stream:
        yield ResultWriter(stream, path.suffix.lower() == ".jsonl")


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)
