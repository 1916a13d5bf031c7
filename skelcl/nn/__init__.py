"""Parts that methods and encoders are composed of."""

from skelcl.nn.heads import Projector
from skelcl.nn.momentum import Ema, Queue, gather

__all__ = ["Ema", "Projector", "Queue", "gather"]
