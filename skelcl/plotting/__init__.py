"""Pictures: moving skeletons, confusion, features, maps of encoders, curves. Needs matplotlib (``skelcl[plot]``).

Every function takes arrays, returns its figure or animation and shows nothing; no state of pyplot is touched.
"""

from skelcl.plotting.animation import SkeletonAnimation, animate_skeleton
from skelcl.plotting.classes import class_change
from skelcl.plotting.confusion import confusion_matrix
from skelcl.plotting.curves import learning_curves
from skelcl.plotting.feature_map import embedding
from skelcl.plotting.maps import mixing_maps
from skelcl.plotting.saving import ANIMATIONS, FIGURES, check_target, save_animation, save_figure
from skelcl.plotting.search import parameter_scatter
from skelcl.plotting.severity import severity_curves

__all__ = [
    "ANIMATIONS",
    "FIGURES",
    "SkeletonAnimation",
    "animate_skeleton",
    "check_target",
    "class_change",
    "confusion_matrix",
    "embedding",
    "learning_curves",
    "mixing_maps",
    "parameter_scatter",
    "save_animation",
    "save_figure",
    "severity_curves",
]
