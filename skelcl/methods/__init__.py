"""Training methods, a file each."""

from skelcl.methods.as_cal import ASCAL
from skelcl.methods.base import Method
from skelcl.methods.fine_tune import FineTune
from skelcl.methods.mamp import MAMP
from skelcl.methods.scd_net import SCDNet
from skelcl.methods.schedules import WarmupCosineLR, WarmupMultiStepLR
from skelcl.methods.sds_cl import SDSCL
from skelcl.methods.skeleton_clr import SkeletonCLR
from skelcl.methods.std_cl import STDCL
from skelcl.methods.supervised import Supervised

__all__ = [
    "ASCAL",
    "MAMP",
    "SDSCL",
    "STDCL",
    "FineTune",
    "Method",
    "SCDNet",
    "SkeletonCLR",
    "Supervised",
    "WarmupCosineLR",
    "WarmupMultiStepLR",
]
