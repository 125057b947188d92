"""The one exception that the package raises for wrong input, and the help that goes with it."""

from collections.abc import Iterable
from difflib import get_close_matches


class CourseError(ValueError):
    """Input that the course cannot use. The message is one sentence: the value, what was expected, what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The names in ``known`` closest to ``name``, nearest first, as a phrase for an error: ``a, b or c``.

    Where nothing is close all of ``known`` is offered or, of more than a dozen, the three that are least far.
    """
    known = list(known)
    far = get_close_matches(name, known, n=3, cutoff=0.0) if len(known) > 12 else known
    names = get_close_matches(name, known, n=3, cutoff=0.5) or far
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
