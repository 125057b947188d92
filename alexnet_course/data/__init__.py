"""Data sets of small images: labelled, held as bytes, named by a fingerprint.

Everything here needs PyTorch but the fingerprints, so a name is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from alexnet_course.lazy import lazily

if TYPE_CHECKING:
    from alexnet_course.data.dataset import Dataset
    from alexnet_course.data.sources import SOURCES, Source, load_dataset, splits_of

__all__ = ["SOURCES", "Dataset", "Source", "load_dataset", "splits_of"]

_MODULES = {"dataset": ("Dataset",), "sources": ("SOURCES", "Source", "load_dataset", "splits_of")}

if not TYPE_CHECKING:  # a type checker would take every name from it
    __getattr__, __dir__ = lazily(__name__, _MODULES)
