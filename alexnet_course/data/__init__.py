"""Data sets of small pictures: labelled, held as bytes, named by a fingerprint.

Everything here needs PyTorch but the fingerprints, so a name is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_course.data.dataset import Dataset
    from alexnet_course.data.sources import SOURCES, Source, load_dataset, splits_of

__all__ = ["SOURCES", "Dataset", "Source", "load_dataset", "splits_of"]


if not TYPE_CHECKING:  # a type checker would take every name from it

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{'dataset' if name == 'Dataset' else 'sources'}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
