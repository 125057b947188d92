"""The exception that the package raises for invalid input, and what its messages are made of."""

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


def first_line(error: BaseException, otherwise: str = "") -> str:
    """The first line of the error's text that is not blank; if there is none, ``otherwise`` or the error's type."""
    lines = (line for line in str(error).splitlines() if line.strip())
    return next(lines, otherwise or type(error).__name__)
