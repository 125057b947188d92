"""Data sets of small pictures: labelled, held as bytes, named by a fingerprint."""

from alexnet_course.data.dataset import Dataset
from alexnet_course.data.sources import SOURCES, Source, load_dataset, splits_of

__all__ = ["SOURCES", "Dataset", "Source", "load_dataset", "splits_of"]
