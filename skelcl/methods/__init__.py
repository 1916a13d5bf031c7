"""Contrastive methods, a file each."""

from skelcl.methods.as_cal import ASCAL
from skelcl.methods.base import Method

__all__ = ["ASCAL", "Method"]
