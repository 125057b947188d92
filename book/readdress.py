"""Give a copy of the course the address of its own repository.

    python book/readdress.py https://github.com/OWNER/NAME

replaces the old address in every file of the checkout: links, the notebooks'
first cells, the metadata, the workflows. The address of the published book
changes with it. The changelog is left alone, since it describes the original
course.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from _ext.address import Address, address

from alexnet_course.files import write_text

ROOT = Path(__file__).resolve().parents[1]
HISTORY = {"CHANGELOG.md"}


def readdressed(old: Address, new: Address) -> Callable[[str], str]:
    """A function that replaces the ``old`` address in a text by the ``new``."""
    place, name = ("/".join(old.owner_and_name), old.owner_and_name[1])
    # In any form: a link, a git command, a workflow's test of its repository.
    here = re.compile(rf"(?<![\w.-]){re.escape(place)}(?![\w-])", re.I)
    clone = re.compile(rf"(git clone \S+\s+cd ){re.escape(name)}\b")

    def change(text: str) -> str:
        text = clone.sub(rf"\g<1>{new.owner_and_name[1]}", text)
        text = text.replace(old.book, new.book)
        return here.sub("/".join(new.owner_and_name), text)

    return change


def main(arguments: list[str]) -> str:
    """Readdress this checkout; returns a sentence that says what was done.

    Raises ``SystemExit`` with a sentence if it cannot.
    """
    if len(arguments) != 1:
        raise SystemExit(
            "usage: python book/readdress.py https://github.com/OWNER/NAME"
        )
    old = address()
    wanted = arguments[0].removesuffix("/").removesuffix(".git")
    new = Address(wanted, old.branch)
    try:
        change = readdressed(old, new)
        change("")
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
    except ValueError as error:
        raise SystemExit(str(error)) from None
    except (OSError, subprocess.CalledProcessError):
        raise SystemExit(
            f"{ROOT} is not a git checkout, so the files of the course are "
            "unknown; clone your copy."
        ) from None
    if new == old:
        raise SystemExit(f"The course already has the address {wanted}.")
    changed = {}
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if name in HISTORY or path.is_symlink() or not path.is_file():
            continue
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            continue  # such as an image
        if change(text) != text:
            changed[path] = change(text)
    for path, text in changed.items():
        write_text(path, text)
    return (
        f"{len(changed)} files now have the address {wanted}. Review them "
        "with git diff, run make test, and push the tag of the release too, "
        "from which the notebooks install the package; a fork may lack it: "
        f"git fetch {old.repository} --tags && git push origin --tags"
    )


if __name__ == "__main__":
    print(main(sys.argv[1:]))
