"""What a name may be: of a recipe, a data set or a class. Names end up in paths, tables, figures and terminals."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200  # bytes of a name in a path: most file systems take 255, of which the course adds some


def same_form(name: str) -> str:
    """``name`` in one of the ways in which Unicode writes it: an é may be one character or two, as on a Mac."""
    return unicodedata.normalize("NFC", name)


def wrong_with_name(name: str) -> str | None:
    """What keeps ``name`` from being one, as the end of a sentence; None where nothing does."""
    if not name.strip():
        return "is empty; write something"
    # Control characters, marks that turn the direction of writing, bytes of a path that are no text in UTF-8.
    hidden = next((character for character in name if not character.isprintable()), None)
    return f"has a character that cannot be printed, {hidden!r}; leave it out" if hidden is not None else None


def wrong_with_file_name(name: str) -> str | None:
    """The same of a name that becomes part of a path, on any system."""
    wrong = wrong_with_name(name)
    if wrong is None and not re.fullmatch(r"[^\W_]([\w .,+()-]*[\w+)-])?", name):
        wrong = "cannot be part of a path; begin with a letter or a digit, and use those and . , _ + - ( ) alone"
    if wrong is None and len(name.encode()) > LONGEST:
        wrong = f"is too long for a path; use at most {LONGEST} bytes"
    return wrong
