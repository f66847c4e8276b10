"""The house keeps its rooms: who imports whom, and what is packaged."""

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

import impactrl

ROOT = Path(__file__).parents[1]
PACKAGE_FOLDERS = {"impactrl": ROOT / "impactrl", "impactrl.envs": ROOT / "envs", "impactrl.agents": ROOT / "agents"}

LAYERS = [
    ["impactrl.errors", "impactrl.progress"],
    ["impactrl.world"],
    ["impactrl.mdp", "impactrl.graph", "impactrl.dynamic_programming", "impactrl.policy_iteration"],
    ["impactrl.components", "impactrl.reach", "impactrl.presence", "impactrl.condensing"],
    ["impactrl.tables", "impactrl.levels", "impactrl.compile"],
    ["impactrl.sprites", "impactrl.render"],
    ["impactrl.level_files"],
    ["impactrl.text_world"],
    ["impactrl.env"],
    ["impactrl.vector"],
    ["impactrl.measures", "impactrl.measures.*"],
    ["impactrl.wrappers", "impactrl.testing", "impactrl.testing.*"],
    ["impactrl.game", "impactrl.explaining", "impactrl.playing", "impactrl.recording"],
    ["impactrl.envs", "impactrl.envs.*"],
    ["impactrl.agents", "impactrl.agents.*"],
    ["impactrl.runs", "impactrl.runs.*"],
    ["impactrl.analysis", "impactrl.analysis.*"],
    ["impactrl", "impactrl.cli", "impactrl.sweeping", "impactrl.terminal", "impactrl.__main__"],
]
"""A module may import those of its own row and of the rows above it."""

NARROWER = {
    "impactrl.measures": [
        "errors",
        "mdp",
        "graph",
        "components",
        "reach",
        "presence",
        "dynamic_programming",
        "policy_iteration",
        "measures",
    ],
    "impactrl.envs": ["errors", "world", "levels", "envs"],
    "impactrl.agents": ["errors", "progress", "mdp", "dynamic_programming", "policy_iteration", "measures", "agents"],
    "impactrl.analysis": ["errors", "mdp", "condensing", "render", "runs", "analysis"],
}
"""Packages that may import these rooms only."""


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@cache
def modules() -> dict[str, Path]:
    """Every module of the library by its import name; links are not followed, so each file comes once."""
    found = {}
    for package, folder in PACKAGE_FOLDERS.items():
        for here, _, files in os.walk(folder, followlinks=False):
            inside = Path(here).relative_to(folder).parts
            for file in files:
                if file.endswith(".py"):
                    stem = () if file == "__init__.py" else (file.removesuffix(".py"),)
                    found[".".join((package, *inside, *stem))] = Path(here) / file
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imported(source: str) -> Iterator[str]:
    """Dotted names that a source imports anywhere, also inside functions, but not for type checkers only."""
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if is_type_checking(node):
            assert isinstance(node, ast.If)
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            yield from (f"{home}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> int:
    places = [i for i, row in enumerate(LAYERS) if any(fnmatch(module, pattern) for pattern in row)]
    assert places, f"{module} has no place in LAYERS: give it one"
    assert len(places) == 1, f"{module} has {len(places)} places in LAYERS"
    return places[0]


def wrong_imports(module: str, source: str) -> list[str]:
    """What a module imports and must not."""
    wrong = []
    for name in imported(source):
        if name.startswith(".") or name.split(".")[0] in ("envs", "agents"):
            wrong.append(name)  # relative, or a second copy of a module
        elif within(name, "matplotlib"):
            if not within(module, "impactrl.analysis"):
                wrong.append(name)
        elif within(name, "impactrl"):
            target = name if name in modules() else name.rpartition(".")[0] or name
            allowed = next((rooms for package, rooms in NARROWER.items() if within(module, package)), None)
            if layer_of(target) > layer_of(module) or (
                allowed is not None and not any(within(target, f"impactrl.{room}") for room in allowed)
            ):
                wrong.append(name)
    return wrong


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_up_the_table(module: str) -> None:
    assert wrong_imports(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("impactrl.mdp", "from impactrl.compile import compile_mdp"),
        ("impactrl.mdp", "def f():\n    from impactrl import compile_mdp"),
        ("impactrl.errors", "import impactrl.world"),
        ("impactrl.measures.values", "from impactrl.compile import compile_mdp"),
        ("impactrl.measures.values", "from impactrl import world"),
        ("impactrl.envs.maps", "from impactrl.mdp import TabularMDP"),
        ("impactrl.agents.planner", "from impactrl.runs.sweep import sweep"),
        ("impactrl.agents.planner", "if True:\n    import impactrl.envs.sokoban"),
        ("impactrl.runs.store", "from impactrl.analysis import statistics"),
        ("impactrl.analysis.plots", "from impactrl.measures.penalty import Penalty"),
        ("impactrl.analysis.plots", "import envs.sokoban"),
        ("impactrl.analysis.plots", "from . import statistics"),
        ("impactrl.runs.sweep", "import matplotlib.pyplot as plt"),
        ("impactrl.wrappers", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: pass\nelse: import impactrl.cli"),
    ],
)
def test_a_wrong_import_would_be_noticed(module: str, source: str) -> None:
    assert len(wrong_imports(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("impactrl.mdp", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib, impactrl.cli"),
        ("impactrl.runs.sweep", "from impactrl.agents.planner import Planner\nimport impactrl.measures.penalty"),
        ("impactrl.measures.penalty", "from impactrl.measures import values"),
        ("impactrl.analysis.plots", "import matplotlib.figure"),
        ("impactrl.analysis.plots", "import numpy"),
    ],
)
def test_a_right_import_is_let_pass(module: str, source: str) -> None:
    assert wrong_imports(module, source) == []


def private_uses(source: str) -> list[str]:
    """What an experiment takes from the library other than public names."""
    names = [name for name in imported(source) if within(name, "impactrl") or name.startswith((".", "envs", "agents"))]
    wrong = [name for name in names if name.removeprefix("impactrl.") not in {"impactrl", *impactrl.__all__}]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "impactrl":
            wrong += [] if node.attr in {*impactrl.__all__, "__version__"} else [f"impactrl.{node.attr}"]
    return wrong


def test_experiments_use_the_public_names_only() -> None:
    scripts = {path.name: private_uses(path.read_text()) for path in sorted((ROOT / "experiments").glob("**/*.py"))}
    assert {name: wrong for name, wrong in scripts.items() if wrong} == {}


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import impactrl\nfrom impactrl import Sweep, sweep\nimpactrl.plot_tradeoff\nimport numpy", 0),
        ("from impactrl.runs.sweep import Sweep", 1),
        ("import impactrl.compile", 1),
        ("from impactrl import compile", 1),
        ("import impactrl\nimpactrl.runs.store.Store", 1),
        ("from envs.sokoban import Box", 1),
    ],
)
def test_a_private_name_in_an_experiment_would_be_noticed(source: str, wrong: int) -> None:
    assert len(private_uses(source)) == wrong


LOAD_ALL = """
import importlib, os, sys

for name in sys.argv[1:]:
    importlib.import_module(name)
print([name for name in sys.modules if name.split(".")[0] in ("envs", "agents")])
files = [os.path.realpath(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
rooms = tuple(os.path.join(os.getcwd(), folder) + os.sep for folder in ("impactrl", "envs", "agents"))
ours = [file for file in files if file.startswith(rooms)]
print(len(ours) == len(set(ours)) == len(sys.argv) - 1)
"""


def test_every_module_is_loaded_once_and_under_its_own_name() -> None:
    """From the checkout, where a plain `envs` could be imported."""
    names = [name for name in modules() if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, *names], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\nTrue\n"
    assert not {"envs", "agents"} & set(sys.modules)


def setuptools_settings() -> dict[str, object]:
    settings: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    return settings


def test_the_list_of_packages_is_that_of_the_folders() -> None:
    on_disk = {name for name, path in modules().items() if path.name == "__init__.py"}
    homes = {name.rpartition(".")[0] if path.name != "__init__.py" else name for name, path in modules().items()}
    assert homes == on_disk  # a folder of modules without __init__.py would be left out of the wheel
    assert setuptools_settings()["packages"] == sorted(on_disk)


def test_every_file_that_is_no_module_is_packaged() -> None:
    patterns = setuptools_settings()["package-data"]
    assert isinstance(patterns, dict)
    left_out = []
    for package, folder in PACKAGE_FOLDERS.items():
        for here, _, files in os.walk(folder, followlinks=False):
            inside = Path(here).relative_to(folder)
            if "__pycache__" in inside.parts:
                continue
            data = [(inside / file).as_posix() for file in files if not file.endswith(".py")]
            # A link to a package's folder is a file to os.walk where links cannot be made; it is no data.
            data = [file for file in data if f"impactrl.{file}" not in PACKAGE_FOLDERS]
            left_out += [f for f in data if not any(fnmatch(f, pattern) for pattern in patterns.get(package, []))]
    assert left_out == []


@pytest.mark.parametrize("name", ["envs", "agents"])
def test_the_links_for_type_checkers_lead_to_the_folders(name: str) -> None:
    link = ROOT / "impactrl" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert os.readlink(link) == f"../{name}"
