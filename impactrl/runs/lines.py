"""In which line of a TOML text something stands, so that a mistake can be shown where it is.

The parser of the standard library says so for mistakes of syntax alone. Sweep files are flat, so looking for the key in
the text is enough: a top-level key, or the n-th table of a list, and a key in it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["line_of"]

TOP_LEVEL = re.compile(r"""\s*(\[|["']?[\w-]+["']?\s*=)""")


def line_of(text: str, key: str, entry: Any = None, index: int = 0, *, message: str = "") -> int | None:
    r"""The number of the line, from 1, that a message is about.

    Args:
        text: TOML.
        key: of the top level.
        entry: the value there, or one value of a list.
        index: of the entry in its list.
        message: the first of its words that is a key of the entry tells the line of that key.

    Returns:
        None if the key is not in the text.

    >>> text = 'seeds = 3\n[[penalties]]\nweight = 1\nbaseline = "bad"'
    >>> line_of(text, "penalties", {"weight": 1, "baseline": "bad"}, message="unknown baseline 'bad'")
    4
    """
    lines = text.splitlines()
    headers = [i for i, line in enumerate(lines) if re.match(rf"\s*\[+\s*{re.escape(key)}\s*\]", line)]
    starts = headers[index : index + 1] or _with_key(lines, key, range(len(lines)), anchor=r"^\s*")[:1]
    if not starts:
        return None
    first = starts[0]
    end = next((i for i in range(first + 1, len(lines)) if TOP_LEVEL.match(lines[i])), len(lines))
    if headers:  # the keys of a table stand on lines of their own
        end = next((i for i in range(first + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    else:
        first = _with_name(lines, entry, range(first, end))
    if isinstance(entry, Mapping):
        for word in re.findall(r"[\w-]+", message):
            if word in entry and (found := _with_key(lines, word, range(first, end))):
                return found[0] + 1
    return first + 1


def _with_key(lines: Sequence[str], key: str, among: range, *, anchor: str = r"(?:^|[\s,{])") -> list[int]:
    pattern = re.compile(rf"""{anchor}["']?{re.escape(key)}["']?\s*=""")
    return [i for i in among if pattern.search(lines[i])]


def _with_name(lines: Sequence[str], entry: Any, among: range) -> int:
    """The line of an entry of a list: that of its name, else the first."""
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return next((i for i in among if repr(name).strip("'\"") in lines[i]), among[0])
