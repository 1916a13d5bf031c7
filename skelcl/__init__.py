"""skelcl: contrastive learning on 3D skeletons, as experiments that can be trusted."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``skelcl.Predictor``, loaded when it is asked for: it needs all of PyTorch."""
    if name == "Predictor":
        from skelcl.recognition.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
