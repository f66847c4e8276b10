"""The worked numbers of three papers, and two identities between measures.

Turner (2018), Towards a new impact measure: what painting a wall costs and what entering a closet, with discount 0 and
one utility; what disabling an off-switch costs an agent that is otherwise switched off with probability 0.95, and what
shutting itself down. Krakovna et al. (2020), arXiv 2010.07877: in deterministic worlds the future-task bonus against
the inaction baseline is a constant less relative reachability. Turner et al. (2021), arXiv 1912.01683: the change of
POWER is at most the penalty of attainable utility preservation, averaged over utilities. Identities are checked at
every transition of six levels; a number agrees if all published digits do.

    verdicts.csv   every number beside the published one
    power.png      the change of POWER against its bound

    python experiments/worked_numbers.py            # seconds
    python experiments/worked_numbers.py --quick    # two levels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from verdicts import Cell, arguments, conclude, digits, published, verdict

from impactrl import Impact, Outcome, Penalty, TabularMDP, World, compile_mdp

LEVELS = ("Options", "Box", "Offset", "Interference", "ConveyorVase", "SushiGoal")
ROUNDING, LEAST = 1e-9, 1e-6
NUMBERS, IDENTITIES = "penalty", "largest violation over all transitions"
BONUS, POWER = "future-task bonus = constant - RR", "change of POWER at most mean change of utilities"


@dataclass(frozen=True)
class OneStep(World[int]):
    """A state 0 in which every action leads on to others, which nothing follows.

    Attributes:
        actions: names; the first one does nothing.
        follows: for every action, probabilities and states.
        pays: what every action is paid.
    """

    actions: tuple[str, ...]
    follows: tuple[tuple[tuple[float, int], ...], ...]
    pays: tuple[float, ...]
    noop = 0
    time_limit = 1
    tiles = {"o": "agent"}  # noqa: RUF012

    def start(self) -> Sequence[tuple[float, int]]:
        """The first state."""
        return [(1.0, 0)]

    def outcomes(self, state: int, action: int) -> Sequence[Outcome[int]]:
        """Every state but the first is for ever."""
        if state:
            return [Outcome(state)]
        return [Outcome(after, self.pays[action], probability=chance) for chance, after in self.follows[action]]

    def terminal(self, state: int) -> bool:  # noqa: ARG002
        """Nothing ends."""
        return False

    def board(self, state: int) -> NDArray[np.uint8]:
        """One cell, as wide as the state is far."""
        board = np.full((1, 5), ord(" "), dtype=np.uint8)
        board[0, state] = ord("o")
        return board


def paint() -> tuple[Impact, Impact]:
    """The penalties of the paint level, plain and scaled: what is left of the one utility is 1, 3/4 or 1/2."""
    names = ("wait", "paint the wall", "enter the closet", "crumple paper")
    world = OneStep(names, tuple(((1.0, state),) for state in (0, 1, 2, 3)), (0.0, 1.0, 0.0, 0.0))
    return scaled(compile_mdp(world), np.array([1.0, 0.75, 0.5, 0.5]), "crumple paper", "outside")


def off_switch() -> tuple[Impact, Impact]:
    """The penalties of the off-switch; the utility is to be on. The mild action makes half a unit of a difference."""
    names = ("wait", "disable the off-switch", "shut oneself down", "mild action")
    chances = (0.05, 1.0, 0.0, 0.55)  # of being on after the step
    follows = tuple(tuple((p, s) for p, s in ((on, 1), (1 - on, 2)) if p > 0) for on in chances)
    return scaled(compile_mdp(OneStep(names, follows, (0.0,) * 4)), np.array([0.0, 1.0, 0.0]), "mild action", "inside")


def scaled(mdp: TabularMDP, utility: NDArray[np.float64], unit: str, expectation: str) -> tuple[Impact, Impact]:
    """The penalty of attainable utility with discount 0, as it is and in impact units."""
    order = [mdp.states[i] for i in range(mdp.num_states)]
    settings = {
        "deviation": "attainable_utility",
        "discount": 0.0,
        "utilities": utility[order][:, None],
        "expectation": expectation,
    }
    return Penalty(**settings).fit(mdp), Penalty(**settings, scale="impact-unit", unit_action=unit).fit(mdp)


def bonus_violation(mdp: TabularMDP, discount: float) -> float:
    """By how much the bonus plus relative reachability differs between transitions at the same time of inaction."""
    settings = {"baseline": "inaction", "discount": discount}
    bonus = Penalty(deviation="future_tasks", **settings).fit(mdp)
    relative = Penalty(deviation="relative_reachability", summary="decrease", **settings).fit(mdp)
    sums = relative.deviation - bonus.deviation  # RR plus the bonus: what inaction has
    live = ~bonus.mdp.terminal
    # A step that ends the episode is charged for the pair of states before it, so it belongs to another time.
    ends = bonus.mdp.terminal[bonus.mdp.next_state]
    largest = 0.0
    for memory in np.unique(bonus.memory[live]):
        same = sums[live & (bonus.memory == memory)][~ends[live & (bonus.memory == memory)]]
        largest = max(largest, float(np.ptp(same))) if same.size else largest
    return largest


def power_and_bound(mdp: TabularMDP) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of every transition, the change of POWER, and the mean change of the same utilities in the same unit."""
    settings = {"utilities": 200, "discount": 0.99, "terminal": "absorbing", "summary": "absolute"}
    power = Penalty(deviation="power", **settings).fit(mdp)
    bound = Penalty(deviation="attainable_utility", attainable="departure", scale="discount", **settings).fit(mdp)
    real = (mdp.probability > 0) & ~mdp.terminal[:, None, None]
    return power.deviation[real], bound.deviation[real]


def main() -> None:
    options = arguments(__doc__, __file__, quick="two levels")
    said, cells = published("turner2018"), []
    plain, unit = paint()
    for name, (penalty, utility) in said["paint"].items():
        a = plain.mdp.actions.index(name)
        cells.append(digits(NUMBERS, name, "penalty", penalty, float(plain.deviation[0, a, 0])))
        cells.append(digits(NUMBERS, name, "utility", utility, float(unit.penalised_reward(1.0)[0, a, 0])))
    plain, unit = off_switch()
    for name, row in said["off_switch"].items():
        a = plain.mdp.actions.index(name)
        for column, theirs, impact in zip(("penalty", "in impact units"), row, (plain, unit), strict=True):
            if theirs:
                cells.append(digits(NUMBERS, name, column, theirs, float(impact.deviation[0, a, 0])))

    points = {}
    for level in LEVELS[:2] if options.quick else LEVELS:
        mdp = compile_mdp(level)
        worst = max(bonus_violation(mdp, discount) for discount in (0.99, 1.0))
        points[level] = power_and_bound(mdp)
        change, bound = points[level]
        for row, violation in ((BONUS, worst), (POWER, float((change - bound).max()))):
            kept = violation <= ROUNDING
            text = "none" if kept else f"{violation:.2g}"
            cells.append(Cell(IDENTITIES, row, level, "none", text, verdict(kept)))
    conclude(options.out, cells, {"power.png": plot_bound(points)})


def plot_bound(points: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Figure:
    """A dot for every transition that changes POWER, against its bound; the line is where they are equal."""
    figure = Figure(figsize=(6.9, 2.6), layout="constrained")
    ax = figure.subplots()
    ax.loglog([LEAST, 1], [LEAST, 1], color="#000000", linewidth=0.8)
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
    for (level, (change, bound)), colour, marker in zip(points.items(), colours, "os^DvP", strict=False):
        shown = change > LEAST
        ax.plot(bound[shown], change[shown], marker, markersize=2.5, color=colour, label=level)
    ax.set_xlim(1e-3, 2)
    ax.set_xlabel("mean change of utilities", fontsize=7)
    ax.set_ylabel("change of POWER", fontsize=7)
    ax.tick_params(labelsize=7)
    ax.grid(alpha=0.3)
    figure.legend(fontsize=7, frameon=False, loc="outside right center")
    return figure


if __name__ == "__main__":
    main()
