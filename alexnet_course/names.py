"""Valid names for recipes, data sets and classes, which appear in paths, tables, figures and terminals."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200  # bytes of a name in a path: most file systems allow 255, and the course appends to it


def same_form(name: str) -> str:
    """``name`` in Unicode's normal form NFC: an é may be one character or, as on a Mac, two."""
    return unicodedata.normalize("NFC", name)


def wrong_with_name(name: str) -> str | None:
    """Why ``name`` is not valid, as the end of a sentence; None if it is valid."""
    if not name.strip():
        return "is empty; write something"
    # Control characters, marks that change the direction of writing, bytes of a path that are not valid UTF-8.
    hidden = next((character for character in name if not character.isprintable()), None)
    return f"has an unprintable character, {hidden!r}; leave it out" if hidden is not None else None


def wrong_with_file_name(name: str) -> str | None:
    """The same for a name that becomes part of a path, on any system."""
    wrong = wrong_with_name(name)
    if wrong is None and not re.fullmatch(r"[^\W_]([\w .,+()-]*[\w+)-])?", name):
        wrong = "cannot be part of a path; begin with a letter or a digit, and use only those and . , _ + - ( )"
    if wrong is None and len(name.encode()) > LONGEST:
        wrong = f"is too long for a path; use at most {LONGEST} bytes"
    return wrong
