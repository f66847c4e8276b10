"""The maps of the published levels, read from `levels/`."""

from importlib.resources import files

__all__ = ["read_map"]


def read_map(name: str) -> str:
    """The text of `levels/<name>.txt`, rows of equal length."""
    return (files("impactrl.envs") / "levels" / f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")
