"""From clips to views: sample in time, normalise, derive streams, augment; batched and on the device."""

from skelcl.transforms.augment import (
    Augmentation,
    ChannelMask,
    Flip,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Masked,
    MatrixAugmentation,
    Reverse,
    Rotate,
    Shear,
    rotation,
)
from skelcl.transforms.masking import CubeMask, StructureMask
from skelcl.transforms.minmax import RotateMinMax
from skelcl.transforms.normalize import Normalize, transform
from skelcl.transforms.resample import (
    CropResize,
    EvenFrames,
    RandomFrames,
    ReflectCrop,
    Resize,
    Sampler,
    Truncate,
    planar,
    present,
)
from skelcl.transforms.step import Step
from skelcl.transforms.streams import Stream, bone, motion
from skelcl.transforms.view import View

__all__ = [
    "Augmentation",
    "ChannelMask",
    "CropResize",
    "CubeMask",
    "EvenFrames",
    "Flip",
    "GaussianBlur",
    "GaussianNoise",
    "JointMask",
    "Masked",
    "MatrixAugmentation",
    "Normalize",
    "RandomFrames",
    "ReflectCrop",
    "Resize",
    "Reverse",
    "Rotate",
    "RotateMinMax",
    "Sampler",
    "Shear",
    "Step",
    "Stream",
    "StructureMask",
    "Truncate",
    "View",
    "bone",
    "motion",
    "planar",
    "present",
    "rotation",
    "transform",
]
