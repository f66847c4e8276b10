"""Checkpoints: all arrays of some runs in one file, without pickle, with a description of what they belong to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.deep.files import whole_file
from impactrl.errors import ImpactError

__all__ = ["FORMAT", "description_of", "load", "save"]

FORMAT = 1
"""Of the files. Another one is refused."""

Tree = TypeVar("Tree")


def save(path: Path, description: Mapping[str, Any], tree: Any, records: Mapping[str, NDArray[Any]]) -> None:
    """Writes a checkpoint, in one piece or not at all.

    Args:
        path: the file.
        description: what it belongs to, as JSON.
        tree: arrays in any structure.
        records: named arrays beside it.

    Raises:
        ImpactError: it cannot be written.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    arrays = {f"leaf/{i}": leaf for i, leaf in enumerate(leaves)} | {f"record/{k}": v for k, v in records.items()}
    text = json.dumps({"format": FORMAT} | dict(description), sort_keys=True)
    with whole_file(path, "the checkpoint") as file:
        np.savez(file, description=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)  # type: ignore[arg-type]


def load(path: Path, description: Mapping[str, Any], like: Tree) -> tuple[Tree, dict[str, NDArray[Any]]]:
    """Reads a checkpoint.

    Args:
        path: the file.
        description: what it has to belong to.
        like: a tree of the same structure.

    Returns:
        The tree, and the records.

    Raises:
        ImpactError: the file is no checkpoint, or one of something else; says what differs.
    """
    found, arrays = _read(path)
    wanted = json.loads(json.dumps({"format": FORMAT} | dict(description)))
    found, wanted = _flat(found), _flat(wanted)
    different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    if different:
        there = ", ".join(f"{key} {found.get(key)}" for key in different)
        here = ", ".join(f"{key} {wanted.get(key)}" for key in different)
        raise ImpactError(
            f"{path} is a checkpoint of something else: it has {there}; this run has {here}. Give another folder, or "
            "delete it to begin anew"
        )
    leaves, structure = jax.tree.flatten(like)
    records = {name.removeprefix("record/"): arrays.pop(name) for name in list(arrays) if name.startswith("record/")}
    stored = [arrays.get(f"leaf/{i}", np.empty(0)) for i in range(len(arrays))]
    if [_kind(leaf) for leaf in stored] != [_kind(leaf) for leaf in leaves]:
        raise ImpactError(
            f"{path} has other arrays than this run, though its settings are the same: it was written with another "
            "version of jax, equinox or optax. Install that one, or delete the file to begin anew"
        )
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in stored]), records


def _flat(description: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the mappings of a description, one by one: `settings.steps`."""
    flat: dict[str, Any] = {}
    for key, value in description.items():
        flat |= {f"{key}.{name}": each for name, each in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _kind(array: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return array.shape, array.dtype


def description_of(path: Path) -> dict[str, Any]:
    """What a checkpoint belongs to.

    Raises:
        ImpactError: the file is no checkpoint, or of another format.
    """
    found, _ = _read(path)
    written = found.pop("format", None)
    if written != FORMAT:
        raise ImpactError(f"{path} has format {written}; this version of impactrl reads format {FORMAT}")
    return found


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The description, and the arrays."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as entries:
            arrays = dict(entries)
        found: dict[str, Any] = json.loads(arrays.pop("description").tobytes())
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        raise ImpactError(f"{path} is no checkpoint of a deep agent ({error}); delete it to begin anew") from None
    return found, arrays
