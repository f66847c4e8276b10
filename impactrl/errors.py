"""The one error class that users see, and the wording of near matches."""

import operator
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real

__all__ = ["ImpactError", "real_number", "require_known", "require_one_of", "whole_number"]


class ImpactError(ValueError):
    """Something the user gave cannot be used; the message says what was expected, what came and what to do."""


def require_known(kind: str, name: str, known: Iterable[str]) -> str:
    """Returns `name` if it is one of `known`; raises with the near ones otherwise.

    Args:
        kind: what is being named, for the message ("deviation", "environment").
        name: what the user wrote.
        known: the names that would do.

    Raises:
        ImpactError: `name` is not known.

    >>> require_known("baseline", "start", ["start", "inaction"])
    'start'
    >>> require_known("baseline", "inactoin", ["start", "inaction"])
    Traceback (most recent call last):
    impactrl.errors.ImpactError: unknown baseline 'inactoin': did you mean 'inaction'? Known: inaction, start
    """
    names = sorted(known)
    if name in names:
        return name
    lowered = {n.lower(): n for n in names}
    matches = [lowered[n] for n in get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, matches))}? " if matches else ""
    raise ImpactError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}")


def require_one_of(field: str, value: object, allowed: Iterable[object]) -> None:
    """Raises unless `value` is one of the `allowed` settings of a field."""
    options = list(allowed)
    if value not in options:
        raise ImpactError(f"{field} must be one of {', '.join(map(repr, options))}, not {value!r}")


def whole_number(field: str, value: object, *, at_least: int) -> int:
    """The value of a field that counts something, as an `int`.

    >>> whole_number("seeds", 3, at_least=1)
    3
    >>> whole_number("seeds", 2.5, at_least=1)
    Traceback (most recent call last):
    impactrl.errors.ImpactError: seeds must be a whole number of at least 1, not 2.5
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        raise ImpactError(f"{field} must be a whole number of at least {at_least}, not {value!r}")
    if number < at_least:
        raise ImpactError(f"{field} must be at least {at_least}, not {number}")
    return number


def real_number(field: str, value: object) -> float:
    """The value of a field that measures something, as a `float`; refuses what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ImpactError(f"{field} must be a number, not {value!r}")
    return float(value)
