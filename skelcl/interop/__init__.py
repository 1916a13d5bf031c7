"""Exchange with other code: checkpoints of the published networks in."""

from skelcl.interop.reference import load_reference

__all__ = ["load_reference"]
