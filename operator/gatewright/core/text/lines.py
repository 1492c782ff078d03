"""Text that others have written, as one line that can be shown."""

from __future__ import annotations


def printable_text(text: str) -> str:
    """Return a text without what a terminal would obey or a status cannot hold.

    Control characters, line ends and halves of surrogate pairs become spaces, one for one.
    """
    return "".join(char if char.isprintable() else " " for char in text)


def one_line(text: str) -> str:
    """Return a text on one line, words one space apart: nobody writes a line in another's name."""
    return " ".join(printable_text(text).split())
