"""Data sets: raw files → store → loaders."""

from typing import TYPE_CHECKING

from skelcl.data.recording import Recording
from skelcl.data.store import SkeletonStore, StoreError

if TYPE_CHECKING:
    from skelcl.data.bandai_namco import BandaiNamco
    from skelcl.data.custom import Custom
    from skelcl.data.datamodule import SkeletonDataModule
    from skelcl.data.mixture import Mixture
    from skelcl.data.ntu import NTU60, NTU120
    from skelcl.data.nw_ucla import NWUCLA
    from skelcl.data.pku_mmd import PKUMMD
    from skelcl.data.synthetic.datamodule import Synthetic

__all__ = [
    "NTU60",
    "NTU120",
    "NWUCLA",
    "PKUMMD",
    "BandaiNamco",
    "Custom",
    "Mixture",
    "Recording",
    "SkeletonDataModule",
    "SkeletonStore",
    "StoreError",
    "Synthetic",
]


def __getattr__(name: str) -> object:
    # Lightning takes seconds and 200 MB to import; `skelcl data prepare` does without it.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from skelcl.data.bandai_namco import BandaiNamco
    from skelcl.data.custom import Custom
    from skelcl.data.datamodule import SkeletonDataModule
    from skelcl.data.mixture import Mixture
    from skelcl.data.ntu import NTU60, NTU120
    from skelcl.data.nw_ucla import NWUCLA
    from skelcl.data.pku_mmd import PKUMMD
    from skelcl.data.synthetic.datamodule import Synthetic

    globals().update(
        BandaiNamco=BandaiNamco,
        Custom=Custom,
        Mixture=Mixture,
        SkeletonDataModule=SkeletonDataModule,
        NTU60=NTU60,
        NTU120=NTU120,
        NWUCLA=NWUCLA,
        PKUMMD=PKUMMD,
        Synthetic=Synthetic,
    )
    return globals()[name]
