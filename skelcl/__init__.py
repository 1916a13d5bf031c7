"""skelcl: contrastive learning on 3D skeletons, as experiments that can be trusted."""

__version__ = "0.1.0"
