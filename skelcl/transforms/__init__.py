"""From clips to views: sample in time, normalise, derive streams, augment; batched and on the device."""

from skelcl.transforms.augment import (
    Augmentation,
    ChannelMask,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Masked,
    Reverse,
    Rotate,
    Shear,
    rotation,
)
from skelcl.transforms.normalize import Normalize, transform
from skelcl.transforms.resample import CropResize, Resize, Sampler, Truncate, planar, present
from skelcl.transforms.streams import Stream, bone, motion
from skelcl.transforms.view import Step, View

__all__ = [
    "Augmentation",
    "ChannelMask",
    "CropResize",
    "GaussianBlur",
    "GaussianNoise",
    "JointMask",
    "Masked",
    "Normalize",
    "Resize",
    "Reverse",
    "Rotate",
    "Sampler",
    "Shear",
    "Step",
    "Stream",
    "Truncate",
    "View",
    "bone",
    "motion",
    "planar",
    "present",
    "rotation",
    "transform",
]
