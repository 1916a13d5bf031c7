"""Parts that methods and encoders are composed of."""

from skelcl.nn.heads import Classifier, Projector, SCDHeads, SDSCLHeads, TwoStreamHead
from skelcl.nn.momentum import Bank, Ema, Queue, gather, gather_with_gradient

__all__ = [
    "Bank",
    "Classifier",
    "Ema",
    "Projector",
    "Queue",
    "SCDHeads",
    "SDSCLHeads",
    "TwoStreamHead",
    "gather",
    "gather_with_gradient",
]
