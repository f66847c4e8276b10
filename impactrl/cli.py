"""The command line. Options are the fields of the library's dataclasses."""

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import impactrl
from impactrl.agents.planner import Planner
from impactrl.errors import ImpactError
from impactrl.levels import level_names, world_of
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.sweeping import export, plot, results, sweep, train
from impactrl.terminal import known_level, print_table, read_settings, write

if TYPE_CHECKING:
    import pandas as pd

    from impactrl.mdp import TabularMDP

__all__ = ["main"]

MAX_ROWS = 40
MAX_POINTS = 6

Name = Annotated[str, tyro.conf.Positional]
PenaltyFlags = Annotated[Penalty, tyro.conf.arg(name="")]


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
    print_table(pd.DataFrame(rows, columns=columns))
    if png is not None:
        from impactrl.analysis.boards import plot_boards
        from impactrl.analysis.plots import save_figure

        write(partial(save_figure, plot_boards(pictures)), png)


def show(
    env: Name,
    /,
    settings: tuple[str, ...] = (),
    graph: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    png: Path | None = None,
) -> None:
    """Show a level: its board, its rules, the size of its state space.

    Args:
        env: level, environment id, or path of a level file (.txt).
        settings: of the level, as name=value.
        graph: show its state graph instead: what can be undone, and the points of no return.
        png: write a picture of the first board, or of the state graph, to this file.
    """
    from impactrl.analysis.boards import save_image
    from impactrl.render import draw_board, draw_text_board

    env, chosen = known_level(env), read_settings(settings)
    if graph:
        _show_graph(impactrl.compile_mdp(env, **chosen), env, png)
        return
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
        write(lambda path: save_image(draw_board(world.board(first), world.tiles), path), png)


def _show_graph(mdp: "TabularMDP", title: str, png: Path | None) -> None:
    """The components of the state graph as a table, and the main points of no return with their boards."""
    import pandas as pd

    from impactrl.condensing import main_points
    from impactrl.render import draw_text_board

    graph = impactrl.condensation(mdp)
    rows = [
        (
            str(c),
            component["size"],
            "yes" if component["terminal"] else "",
            "yes" if component["completed"] else "",
            component["side_effect"],
            _listed(sorted(graph.predecessors(c))),
            100 * (1 - component["reachable"]),
        )
        for c, component in graph.nodes(data=True)
    ]
    columns = ["component", "situations", "over", "done", "side effects", "reached from", "lost %"]
    more = f"; the first {MAX_ROWS}" if len(rows) > MAX_ROWS else ""
    shares = f"{sum(row[1] for row in rows)} situations in {len(rows)} components"
    print_table(pd.DataFrame(rows[:MAX_ROWS], columns=columns), f"{title}: {shares}{more}")
    points = main_points(mdp, MAX_POINTS)
    if points:
        print("Main points of no return: what is lost for good of all situations, and the boards before and after")
    for point in points:
        change = f"{mdp.actions[point.action]}, component {point.component} to {point.next_component}"
        print(f"\n{100 * point.lost:.3g} %: {change}")
        boards = [mdp.draw(mdp.states[state]) for state in (point.state, point.next_state)]
        texts = [draw_text_board(board, mdp.tiles, colour=sys.stdout.isatty()).splitlines() for board in boards]
        print("\n".join(f"  {before}   {after}" for before, after in zip(*texts, strict=True)))
    if png is not None:
        from impactrl.analysis.plots import save_figure

        write(partial(save_figure, impactrl.plot_state_graph(mdp, title=title)), png)


def _listed(numbers: list[int], most: int = 6) -> str:
    return ", ".join(map(str, numbers[:most])) + (", ..." if len(numbers) > most else "")


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

    env, chosen = known_level(env), read_settings(settings)
    mdp = impactrl.compile_mdp(env, **chosen)
    best = impactrl.solve(mdp, penalty, discount=plan.discount, horizon=plan.horizon)
    actions = best.actions()
    names = " ".join(mdp.actions[a] for a in actions) or "nothing: the agent stays where it is"
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    outcome = pd.DataFrame([[getattr(best, f"expected_{column}") for column in COLUMNS]], columns=list(COLUMNS))
    print_table(outcome, f"{title}: the optimum for discount {plan.discount:g}, over {best.steps} steps")
    print(f"actions: {names}")
    if png is not None:
        _save_episode(mdp, impactrl.explain(env, actions=actions, penalty=penalty, **chosen), png, title=title)


def frontier(
    env: Name,
    /,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008
    plan: Planner = Planner(),  # noqa: B008
    penalties: Path | None = None,
    settings: tuple[str, ...] = (),
    png: Path | None = None,
) -> None:
    """Compute every weight at which the best policy changes, what it does in between, and where it is safe.

    Args:
        env: level, environment id, or path of a level file (.txt).
        penalty: what the agent pays for its impact; its weight does not matter.
        plan: of the planner.
        penalties: compare those of this TOML file (tables [[penalties]], as in a sweep file) instead.
        settings: of the level, as name=value.
        png: write a picture of all columns and safe windows to this file.
    """
    import pandas as pd

    from impactrl.analysis.frontiers import plot_frontier, windows_text
    from impactrl.analysis.plots import save_figure
    from impactrl.runs.files import read_penalties

    if penalties is not None and penalty != Penalty():
        raise ImpactError("a penalty is either described by flags or read with --penalties, not both")
    env, chosen = known_level(env), read_settings(settings)
    mdp = impactrl.compile_mdp(env, **chosen)
    curves = {
        each.label: impactrl.frontier(mdp, each, discount=plan.discount, horizon=plan.horizon)
        for each in ((penalty,) if penalties is None else read_penalties(penalties))
    }
    rows = []
    for label, curve in curves.items():
        table = curve.intervals[["lower", "upper", *COLUMNS]].rename(columns={"lower": "from weight", "upper": "to"})
        print_table(table, f"{env}, {label}: the optimum for discount {plan.discount:g}, over {curve.steps} steps")
        price = "" if curve.price_of_safety is None else f"{curve.price_of_safety:.4g}"
        rows.append((label, len(curve.weights), windows_text(curve), curve.safe_decades, price))
    columns = ["penalty", "critical weights", "safe weights", "decades", "return given up"]
    print_table(pd.DataFrame(rows, columns=columns), "Safe weights: no side effect happens and the task is completed")
    if png is not None:
        write(partial(save_figure, plot_frontier(curves, title=f"{env}: the optimum at every weight")), png)


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
    env, chosen = known_level(env), read_settings(settings)
    steps = impactrl.explain(env, actions=actions, penalty=penalty, **chosen)
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    print_table(steps, title)
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
        known_level(env),
        actions=actions,
        path=out,
        penalty=penalty,
        seed=chance,
        cell_size=cell_size,
        fps=fps,
        **read_settings(settings),
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

    play_in_terminal(known_level(env), penalty=penalty, seed=chance, **read_settings(settings))


def _save_episode(mdp: "TabularMDP", steps: "pd.DataFrame", path: Path, *, title: str) -> None:
    from impactrl.analysis.boards import plot_episode
    from impactrl.analysis.plots import save_figure

    write(partial(save_figure, plot_episode(mdp, steps, title=title)), path)


COMMANDS: dict[str, Callable[..., None]] = {
    "envs": envs,
    "show": show,
    "solve": solve,
    "frontier": frontier,
    "explain": explain,
    "render": render,
    "play": play,
    "train": train,
    "sweep": sweep,
    "results": results,
    "export": export,
    "plot": plot,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a mistake of the user's is one line and exit status 2, an interruption 130."""
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        _run(arguments)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"impactrl: {message}", file=sys.stderr)


def _run(arguments: list[str] | None) -> None:
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
