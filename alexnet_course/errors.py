"""The exception that the package raises for invalid input, and the suggestions in its messages."""

from collections.abc import Iterable
from difflib import get_close_matches


class CourseError(ValueError):
    """Invalid input. The message is one sentence: what was given, what was expected, what to do."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The names in ``known`` closest to ``name``, nearest first, as a phrase for an error: ``a, b or c``.

    If nothing is close, all of ``known`` is offered, or the closest three if there are more than a dozen; ``none`` if
    nothing is known.
    """
    known = list(known)
    if not known:
        return "none"
    far = get_close_matches(name, known, n=3, cutoff=0.0) if len(known) > 12 else known
    names = get_close_matches(name, known, n=3, cutoff=0.5) or far
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
