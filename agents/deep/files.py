"""Files that are there in one piece or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from impactrl.errors import ImpactError

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: Path, what: str) -> Iterator[IO[bytes]]:
    """A file to be written, that takes its name once it is complete; its folder is made if there is none.

    Args:
        path: its name.
        what: it is, for the message.

    Raises:
        ImpactError: it cannot be written.
    """
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise ImpactError(f"cannot write {what} {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
