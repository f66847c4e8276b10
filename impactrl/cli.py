"""The command line. Options are the fields of the library's dataclasses."""

import os
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from inspect import getdoc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

import impactrl
from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError
from impactrl.levels import level_names, world_of
from impactrl.measures.penalty import COLUMNS, Penalty
from impactrl.text_world import LEVEL_FILE

if TYPE_CHECKING:
    import pandas as pd

    from impactrl.mdp import TabularMDP

__all__ = ["main"]

STORE_NAME = "results.db"

Name = Annotated[str, tyro.conf.Positional]
PenaltyFlags = Annotated[Penalty, tyro.conf.arg(name="")]


def _known(env: str) -> str:
    """The environment, registered first if it is a level file."""
    return impactrl.make_level(env) if env.endswith(LEVEL_FILE) else env


def _settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`goal_reward=1` as keyword arguments; values are read as TOML, bare words as text."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ImpactError(f"a setting is written name=value, not {pair!r}")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def _print_table(table: "pd.DataFrame", title: str = "") -> None:
    """A pandas table on the terminal, numbers to four digits."""
    drawn = Table(title=title or None, title_justify="left")
    for column in table.columns:
        drawn.add_column(str(column), justify="right" if table[column].dtype.kind in "fi" else "left")
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    console = Console()
    # A table that is cut off is of no use in a file or a pipe.
    (console if console.is_terminal else Console(width=200)).print(drawn)


def envs(png: Path | None = None) -> None:
    """List the levels: states, boards, time limit and what each is about.

    Args:
        png: write a picture sheet of all levels to this file.
    """
    import pandas as pd

    from impactrl.render import draw_board

    rows, pictures = [], {}
    for name in level_names():
        world, limit = world_of(name, {})
        about = (type(world).__doc__ or "").splitlines()[0]
        sizes = ("too many to list", "", "")
        if world.enumerable:
            mdp = impactrl.compile_mdp(name)
            boards = len({mdp.draw(state).tobytes() for state in mdp.states})
            sizes = (str(mdp.num_states), str(boards), str(mdp.terminal.sum()))
        rows.append((name, *sizes, limit, about))
        pictures[name] = draw_board(world.board(world.start()[0][1]), world.tiles)
    columns = ["level", "states", "boards", "ends", "time limit", "about"]
    _print_table(pd.DataFrame(rows, columns=columns))
    if png is not None:
        from impactrl.analysis.boards import plot_boards
        from impactrl.analysis.plots import save_figure

        _write(partial(save_figure, plot_boards(pictures)), png)


def show(env: Name, /, settings: tuple[str, ...] = (), png: Path | None = None) -> None:
    """Show a level: its board, its rules, the size of its state space.

    Args:
        env: level, environment id, or path of a level file (.txt).
        settings: of the level, as name=value.
        png: write a picture of the first board to this file.
    """
    from impactrl.analysis.boards import save_image
    from impactrl.render import draw_board, draw_text_board

    env, chosen = _known(env), _settings(settings)
    world, limit = world_of(env, chosen)
    first = world.start()[0][1]
    print(draw_text_board(world.board(first), world.tiles, colour=sys.stdout.isatty()), end="\n\n")
    print(getdoc(type(world)), end="\n\n")
    actions = ", ".join(f"{i} {name}" for i, name in enumerate(world.actions))
    size = "too many states to list"
    if world.enumerable:
        mdp = impactrl.compile_mdp(env, **chosen)
        size = f"{mdp.num_states} states ({int(mdp.terminal.sum())} end the episode)"
    print(f"{size}; {len(world.actions)} actions: {actions}; cut off after {limit} steps")
    if png is not None:
        _write(lambda path: save_image(draw_board(world.board(first), world.tiles), path), png)


def solve(
    env: Name,
    /,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008  (tyro reads the defaults of a frozen dataclass)
    plan: Planner = Planner(),  # noqa: B008
    settings: tuple[str, ...] = (),
    png: Path | None = None,
) -> None:
    """Compute the exact best policy under a penalty and what it does to all five columns.

    Args:
        env: level, environment id, or path of a level file (.txt).
        penalty: what the agent pays for its impact.
        plan: of the planner.
        settings: of the level, as name=value.
        png: write a picture of the optimal episode to this file.
    """
    import pandas as pd

    env, chosen = _known(env), _settings(settings)
    mdp = impactrl.compile_mdp(env, **chosen)
    best = impactrl.solve(mdp, penalty, discount=plan.discount, horizon=plan.horizon)
    actions = best.actions()
    names = " ".join(mdp.actions[a] for a in actions) or "nothing: the agent stays where it is"
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    outcome = pd.DataFrame([[getattr(best, f"expected_{column}") for column in COLUMNS]], columns=list(COLUMNS))
    _print_table(outcome, f"{title}: the optimum for discount {plan.discount:g}, over {best.steps} steps")
    print(f"actions: {names}")
    if png is not None:
        _save_episode(mdp, impactrl.explain(env, actions=actions, penalty=penalty, **chosen), png, title=title)


def explain(
    env: Name,
    /,
    actions: str,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008
    settings: tuple[str, ...] = (),
    png: Path | None = None,
) -> None:
    """Play actions and show, step by step, what a penalty makes of them.

    Args:
        env: level, environment id, or path of a level file (.txt).
        actions: letters U D L R N, or numbers.
        penalty: what the agent pays for its impact.
        settings: of the level, as name=value.
        png: write a picture of the episode to this file.
    """
    env, chosen = _known(env), _settings(settings)
    steps = impactrl.explain(env, actions=actions, penalty=penalty, **chosen)
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    _print_table(steps, title)
    if png is not None:
        _save_episode(impactrl.compile_mdp(env, **chosen), steps, png, title=title)


def render(
    env: Name,
    /,
    actions: str,
    out: Path,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008
    chance: int = 0,
    cell_size: int = 48,
    fps: float = 4,
    settings: tuple[str, ...] = (),
) -> None:
    """Make a film of an episode: .gif, .mp4 (needs the extra `render`), or .png for a filmstrip.

    Args:
        env: level, environment id, or path of a level file (.txt).
        actions: letters U D L R N, or numbers.
        out: the file.
        penalty: whose impact is shown.
        chance: seed of what is random in the world.
        cell_size: side of a cell in pixels.
        fps: steps per second.
        settings: of the level, as name=value.
    """
    from impactrl.recording import record

    frames = record(
        _known(env),
        actions=actions,
        path=out,
        penalty=penalty,
        seed=chance,
        cell_size=cell_size,
        fps=fps,
        **_settings(settings),
    )
    print(f"wrote {out}: {frames} frames")


def play(env: Name, /, penalty: PenaltyFlags = Penalty(), chance: int = 0, settings: tuple[str, ...] = ()) -> None:  # noqa: B008
    """Play a level in the terminal, with the five columns beside the board.

    Args:
        env: level, environment id, or path of a level file (.txt).
        penalty: whose impact is watched; in levels with too many states to list, only deviation "none".
        chance: seed of what is random in the world.
        settings: of the level, as name=value.
    """
    from impactrl.playing import play as play_in_terminal

    play_in_terminal(_known(env), penalty=penalty, seed=chance, **_settings(settings))


def train(
    env: Name,
    /,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008
    agent: QLearning = QLearning(),  # noqa: B008
    seeds: int = 10,
    settings: tuple[str, ...] = (),
    store: Path | None = None,
    jobs: int | None = None,
) -> None:
    """Train Q-learning under a penalty, a run per seed, and show what came of it.

    Args:
        env: level, environment id, or path of a level file (.txt).
        penalty: what the agent pays for its impact.
        agent: of the learner.
        seeds: how many runs.
        settings: of the level, as name=value.
        store: keep the runs in this results store.
        jobs: runs at once; default one per core.
    """
    from impactrl.runs.specification import Environment
    from impactrl.runs.sweep import Sweep, sweep

    environment = Environment(_known(env), tuple(_settings(settings).items()))
    plan = Sweep(environments=(environment,), penalties=(penalty,), seeds=seeds, agents=(agent,))
    with TemporaryDirectory() as folder:
        runs = sweep(plan, store=store or Path(folder) / STORE_NAME, jobs=jobs)
    _print_outcomes(runs)


def sweep(file: Annotated[Path, tyro.conf.Positional], /, out: Path, jobs: int | None = None) -> None:
    """Do all runs of a sweep file, or go on where an earlier call stopped, and draw the results.

    Args:
        file: the plan, TOML; see the README.
        out: folder for the results store and the figures.
        jobs: runs at once; default one per core.
    """
    from impactrl.runs.files import read_sweep
    from impactrl.runs.sweep import sweep as run_sweep

    plan = read_sweep(file)
    _make_folder(out)
    runs = run_sweep(plan, store=out / STORE_NAME, jobs=jobs)
    _print_outcomes(runs)
    _draw(out, list(runs["run"]))


def plot(folder: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Draw the figures of a sweep's folder: the trade-off, and the learning curves.

    Args:
        folder: as given to `impactrl sweep --out`.
    """
    _draw(folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImpactError(f"cannot make the folder {folder}: {error.strerror}") from None


def _print_outcomes(runs: "pd.DataFrame") -> None:
    from impactrl.analysis.statistics import outcome_table

    _print_table(outcome_table(runs), "Outcomes at the best weight of each penalty")


def _draw(folder: Path, order: list[str] | None = None) -> None:
    """Figures of the given runs of a store; None: of all."""
    from impactrl.analysis.plots import plot_learning_curves, plot_tradeoff, save_figure
    from impactrl.runs.store import Store

    with Store(folder / STORE_NAME, create=False) as store:
        runs, curves = store.runs(order), store.curves(order)
    figures = {"tradeoff.png": plot_tradeoff(runs)}
    if (curves["episode"] > 0).any():
        figures["learning.png"] = plot_learning_curves(curves)
    for name, figure in figures.items():
        _write(partial(save_figure, figure), folder / name)


def _save_episode(mdp: "TabularMDP", steps: "pd.DataFrame", path: Path, *, title: str) -> None:
    from impactrl.analysis.boards import plot_episode
    from impactrl.analysis.plots import save_figure

    _write(partial(save_figure, plot_episode(mdp, steps, title=title)), path)


def _write(save: Callable[[Path], None], path: Path) -> None:
    try:
        save(path)
    except OSError as error:
        raise ImpactError(f"cannot write {path}: {error.strerror}") from None
    print(f"wrote {path}")


COMMANDS: dict[str, Callable[..., None]] = {
    "envs": envs,
    "show": show,
    "solve": solve,
    "explain": explain,
    "render": render,
    "play": play,
    "train": train,
    "sweep": sweep,
    "plot": plot,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a mistake of the user's is one line and exit status 2, an interruption 130."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="impactrl",
            description="Side effects in reinforcement learning: levels, impact measures, agents, sweeps, figures.",
            args=arguments,
        )
    except ImpactError as error:
        print(f"impactrl: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader has seen enough (`| head`); nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("impactrl: interrupted; finished runs of a sweep are stored, the same command goes on", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
