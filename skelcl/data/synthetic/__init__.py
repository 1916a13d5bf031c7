"""Generated people: actions, the bodies that perform them, and the raw files that sensors would write of them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skelcl.data.synthetic.datamodule import Synthetic

__all__ = ["Synthetic"]


def __getattr__(name: str) -> object:
    # Lightning takes seconds to import; `skelcl data generate` does without it.
    if name != "Synthetic":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from skelcl.data.synthetic.datamodule import Synthetic

    return Synthetic
