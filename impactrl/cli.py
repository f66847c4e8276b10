"""The command line. Options are the fields of the library's dataclasses."""

import os
import re
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.columns import Columns
from rich.text import Text

import impactrl
from impactrl.agents.planner import Planner
from impactrl.errors import ImpactError
from impactrl.levels import level_names, world_of
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.sweeping import export, plot, results, sweep, train_command
from impactrl.terminal import (
    known_level,
    print_heading,
    print_pairs,
    print_rows,
    print_table,
    read_settings,
    terminal,
    write,
)

if TYPE_CHECKING:
    import pandas as pd

    from impactrl.agents.constrained import BudgetSolution
    from impactrl.agents.planner import Solution
    from impactrl.mdp import TabularMDP
    from impactrl.measures.catalogue import Entry
    from impactrl.world import AnyWorld

__all__ = ["commands", "main"]

MAX_ROWS = 40
MAX_POINTS = 6
DEFAULT_AGENT = "q_learning"

Name = Annotated[str, tyro.conf.Positional]
PenaltyFlags = Annotated[Penalty, tyro.conf.arg(name="")]


def envs(sizes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False, png: Path | None = None) -> None:
    """List the levels: time limit and what each is about.

    Args:
        sizes: count states, boards and ends, too; this enumerates every level.
        png: write a picture sheet of all levels to this file.
    """
    worlds = {name: world_of(name, {}) for name in level_names()}
    rows = [
        (name, *(_sizes(name, world) if sizes else ()), limit, (type(world).__doc__ or "").splitlines()[0])
        for name, (world, limit) in worlds.items()
    ]
    print_rows(["level", *(["states", "boards", "ends"] if sizes else []), "time limit", "about"], rows)
    if png is not None:
        from impactrl.analysis.boards import plot_boards
        from impactrl.analysis.plots import save_figure
        from impactrl.render import draw_board

        pictures = {name: draw_board(w.board(w.start()[0][1]), w.tiles) for name, (w, _) in worlds.items()}
        write(partial(save_figure, plot_boards(pictures)), png)


def _sizes(name: str, world: "AnyWorld") -> tuple[str, str, str]:
    """Counts of a level's states, boards and ends."""
    if not world.enumerable:
        return "too many to list", "", ""
    mdp = impactrl.compile_mdp(name)
    boards = len({mdp.draw(state).tobytes() for state in mdp.states})
    return str(mdp.num_states), str(boards), str(mdp.terminal.sum())


def measures(name: Annotated[str | None, tyro.conf.Positional] = None, /) -> None:
    """List what a penalty can be made of: deviations, baselines, settings, and presets of published penalties.

    Args:
        name: of one of them, to be shown in full.
    """
    from impactrl.measures.catalogue import OPTIONS, catalogue, entries_named

    if name is not None:
        for entry in entries_named(name):
            print_heading(f"{entry.kind} {entry.name}" + (f" ({entry.label})" if entry.label else ""))
            terminal().print(Text(entry.about), end="\n\n")
            facts = {"formula": entry.formula, "source": entry.source, **entry.facts}
            print_pairs((key, value) for key, value in facts.items() if value)
        return
    for kind, entries in catalogue().items():
        print_heading(f"{kind}s: --{kind} NAME")
        print_pairs((entry.name, _in_short(entry)) for entry in entries)
    for setting, meanings in OPTIONS.items():
        print_heading(f"{setting}: --{setting} NAME")
        print_pairs(meanings.items())


def _in_short(entry: "Entry") -> str:
    if entry.kind == "preset":
        lines = [entry.about.partition(". ")[0].removesuffix(".") + ".", entry.facts["flags"], entry.source]
    else:
        facts = {"label": entry.label if entry.kind == "deviation" else "", **entry.facts}
        lines = [entry.formula, entry.source, "; ".join(f"{key} {value}" for key, value in facts.items() if value)]
    return "\n".join(filter(None, lines)) + "\n"


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
    budget: float | None = None,
    settings: tuple[str, ...] = (),
    png: Path | None = None,
) -> None:
    """Compute the exact best policy under a penalty and what it does to all five columns.

    Args:
        env: level, environment id, or path of a level file (.txt).
        penalty: what the agent pays for its impact.
        plan: of the planner.
        budget: the most discounted impact that is allowed, as a hard limit in place of the weight.
        settings: of the level, as name=value.
        png: write a picture of the optimal episode to this file.
    """
    env, chosen = known_level(env), read_settings(settings)
    mdp = impactrl.compile_mdp(env, **chosen)
    if budget is not None:
        if png is not None:
            raise ImpactError("with a budget the best policy may leave an action to chance: there is no one episode")
        _print_within_budget(env, mdp, penalty, plan, budget)
        return
    best = impactrl.solve(mdp, penalty, discount=plan.discount, horizon=plan.horizon)
    actions = best.actions()
    names = " ".join(mdp.actions[a] for a in actions) or "nothing: the agent stays where it is"
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    _print_expected(best, f"{title}: the optimum for discount {plan.discount:g}, over {best.steps} steps")
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


def _print_expected(best: "Solution | BudgetSolution", title: str) -> None:
    import pandas as pd

    expected = [getattr(best, f"expected_{column}") for column in COLUMNS]
    print_table(pd.DataFrame([expected], columns=list(COLUMNS)), title)


def _print_within_budget(env: str, mdp: "TabularMDP", penalty: Penalty, plan: Planner, budget: float) -> None:
    best = impactrl.solve_within_budget(mdp, penalty, budget=budget, discount=plan.discount, horizon=plan.horizon)
    limit = f"{env}, {penalty.label}, at most {budget:g} discounted impact"
    _print_expected(best, f"{limit}: the optimum for discount {plan.discount:g}, over {best.steps} steps")
    print(f"discounted: return {best.value:.4g}, impact {best.discounted_impact:.4g}")
    if best.multiplier:
        print(f"a unit of budget is worth {best.multiplier:.4g}: the weight for which this is an optimum, too")
    else:
        print("the budget does not bind: this is the best without a penalty")
    for *step, x in zip(*((best.policy > 0).sum(axis=-1) > 1).nonzero(), strict=True):
        chances = best.policy[(*step, x)]
        mixed = ", ".join(f"{name} {chance:.4g}" for name, chance in zip(mdp.actions, chances, strict=True) if chance)
        print(f"left to chance{f' in step {step[0] + 1}' if step else ''}: {mixed}, in")
        print("\n".join(mdp.board_text(int(best.impact.state[x]))))


def explain(
    env: Name,
    /,
    actions: str,
    penalty: PenaltyFlags = Penalty(),  # noqa: B008
    top: int = 0,
    chance: int = 0,
    settings: tuple[str, ...] = (),
    png: Path | None = None,
) -> None:
    """Play actions and show, step by step, what a penalty makes of them.

    Args:
        env: level, environment id, or path of a level file (.txt).
        actions: letters U D L R N I, or numbers.
        penalty: what the agent pays for its impact.
        top: name so many of the goals, utilities or features that made the impact of each step.
        chance: seed of what is random in the world.
        settings: of the level, as name=value.
        png: write a picture of the episode to this file.
    """
    env, chosen = known_level(env), read_settings(settings)
    steps = impactrl.explain(env, actions=actions, penalty=penalty, top=top, seed=chance, **chosen)
    title = f"{env}, {penalty.label}, weight {penalty.weight:g}"
    print_table(steps.drop(columns="contributions", errors="ignore"), title)
    _print_rest(env, chosen, actions, len(steps))
    if top:
        _print_contributions(steps, impactrl.compile_mdp(env, **chosen))
    if png is not None:
        _save_episode(impactrl.compile_mdp(env, **chosen), steps, png, title=title)


def _print_rest(env: str, settings: dict[str, Any], actions: str, played: int) -> None:
    """A note on actions that came after the end of the episode."""
    from impactrl.explaining import parse_actions

    given = len(parse_actions(actions, world_of(env, settings)[0].actions))
    if played < given:
        print(f"the episode was over after {played} of {given} actions; the rest was not played")


def _print_contributions(steps: "pd.DataFrame", mdp: "TabularMDP") -> None:
    """What made the impact of each step; of the most important one also the boards of states."""
    named = {}
    for t, (action, made) in enumerate(zip(steps["action"], steps["contributions"], strict=True), start=1):
        if made:
            named[f"{t} {action}"] = ", ".join(f"{name} ({amount:.4g})" for name, amount in made)
    if not named:
        print("no step had an impact")
        return
    print()
    print_heading("what made the impact of each step, largest first")
    print_pairs(named.items())
    most = steps["deviation"].abs().to_numpy().argmax()
    boards = [
        Text(f"{name}: {amount:.4g}\n\n" + "\n".join(mdp.board_text(int(name.removeprefix("state ")))))
        for name, amount in steps["contributions"][most]
        if re.fullmatch(r"state \d+", name)
    ]
    if boards:
        print_heading(f"the goals behind step {most + 1}, {steps['action'][most]}")
        terminal().print(Columns(boards, padding=(0, 4)))


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
        actions: letters U D L R N I, or numbers.
        out: the file.
        penalty: whose impact is shown.
        chance: seed of what is random in the world.
        cell_size: side of a cell in pixels.
        fps: steps per second.
        settings: of the level, as name=value.
    """
    from impactrl.recording import record

    env, chosen = known_level(env), read_settings(settings)
    frames = record(
        env,
        actions=actions,
        path=out,
        penalty=penalty,
        seed=chance,
        cell_size=cell_size,
        fps=fps,
        **chosen,
    )
    print(f"wrote {out}: {frames} frames")
    _print_rest(env, chosen, actions, frames - 1)


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


def commands(agent: str = DEFAULT_AGENT) -> dict[str, Callable[..., None]]:
    """All commands by name.

    Args:
        agent: that `train` trains.

    Raises:
        ImpactError: there is no such agent.
    """
    return {
        "envs": envs,
        "measures": measures,
        "show": show,
        "solve": solve,
        "frontier": frontier,
        "explain": explain,
        "render": render,
        "play": play,
        "train": train_command(agent),
        "sweep": sweep,
        "results": results,
        "export": export,
        "plot": plot,
    }


def _preset_flags(start: Penalty) -> tyro.constructors.ConstructorRegistry:
    """What makes the flags of a penalty: `--preset`, and the fields, whose defaults are those of `start`."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.struct_rule
    def flags(info: tyro.constructors.StructTypeInfo) -> tyro.constructors.StructConstructorSpec | None:
        if info.type is not Penalty or info.default is start:  # `start` itself: its fields, as of any dataclass
            return None
        name = tyro.constructors.StructFieldSpec(
            "preset",
            Annotated[str | None, tyro.conf.arg(metavar="NAME")],  # type: ignore[arg-type]
            default=None,
            helptext="a published penalty (`impactrl measures` lists them), whose settings are then the defaults here.",
        )
        penalty = tyro.constructors.StructFieldSpec("penalty", PenaltyFlags, default=start, helptext="")
        return tyro.constructors.StructConstructorSpec(lambda preset, penalty: penalty, fields=(name, penalty))  # noqa: ARG005

    return registry


def _named(option: str, arguments: list[str]) -> str | None:
    """The name that an option gives, read before all others since they depend on it."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, nargs="?", dest="name")
    name: str | None = parser.parse_known_args(arguments)[0].name
    return name


def main(arguments: list[str] | None = None) -> None:
    """Runs a command; a mistake of the user's is one line and exit status 2, an interruption 130."""
    with warnings.catch_warnings():
        warnings.showwarning = _say_warning
        _run(arguments)


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"impactrl: {message}", file=sys.stderr)


def _run(arguments: list[str] | None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    try:
        preset, agent = _named("--preset", given), _named("--agent", given) if given[:1] == ["train"] else None
        tyro.extras.subcommand_cli_from_dict(
            commands(agent or DEFAULT_AGENT),
            prog="impactrl",
            description="Side effects in reinforcement learning: levels, impact measures, agents, sweeps, figures.",
            args=given,
            registry=_preset_flags(Penalty() if preset is None else impactrl.preset(preset)),
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
