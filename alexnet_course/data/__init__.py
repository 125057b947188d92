"""Data sets of small images: labelled, stored as bytes, identified by a fingerprint.

All of it but the fingerprints needs PyTorch, so a name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from alexnet_course.lazy import lazily

if TYPE_CHECKING:
    from alexnet_course.data.dataset import Dataset
    from alexnet_course.data.sources import SOURCES, Source, load_dataset, splits_of

__all__ = ["SOURCES", "Dataset", "Source", "load_dataset", "splits_of"]

_MODULES = {"dataset": ("Dataset",), "sources": ("SOURCES", "Source", "load_dataset", "splits_of")}

if not TYPE_CHECKING:  # or a type checker would accept every name
    __getattr__, __dir__ = lazily(__name__, _MODULES)
