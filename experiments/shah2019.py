"""Relative reachability, deviation and inferred preferences on the levels of Shah et al.

Shah et al. (2019), arXiv 1902.04198, table 1: an agent plans for 20 states from the state that a human left behind, for
the specified reward alone, with one of two penalties, or with the preferences that reward learning by simulating the
past (RLSP) infers from that state. Cells are fractions of the best true return, (return + 20) / (best return + 20), and
returns; they agree if all published digits do. RLSP (equations 3 to 6) is small enough to be written out here: gradient
ascent on the log-likelihood of the state under a Boltzmann-rational human whose first state is known, with the
published settings: 50 steps at rate 0.1, a Gaussian prior with standard deviation 0.5, and the published number of
states that the human may have seen. It begins close to 0, at a random place; ten seeds, all of which must agree.

    verdicts.csv    the fractions and returns beside the published ones
    fractions.png   the fractions

    python experiments/shah2019.py            # a minute
    python experiments/shah2019.py --quick    # one seed, and without the level of the apples
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import logsumexp
from verdicts import AGREES, arguments, conclude, digits, plot_numbers, published, verdict

from impactrl import Penalty, TabularMDP, compile_mdp, preset, solve

HORIZON = 20
STATES = {"VaseRoom": 7, "ToyTrain": 8, "Apples": 11, "BatteriesEasy": 11, "BatteriesHard": 11, "FarVaseRoom": 5}
STEPS, RATE, PRIOR_DEVIATION, FIRST = 50, 0.1, 0.5, 0.01
PENALTIES = {
    "specified reward": Penalty(deviation="none"),
    "deviation": preset("rlsp-deviation"),
    "relative reachability": preset("rlsp-reachability"),
}
FRACTIONS, RETURNS = "fraction of the best true return", "true return over 20 states"


def planned(mdp: TabularMDP, penalty: Penalty | None = None) -> float:
    """True return of the best plan for 20 states."""
    return solve(mdp, penalty, discount=1.0, horizon=HORIZON).expected_performance


def likelihood_gradient(
    mdp: TabularMDP, features: NDArray[np.float64], weights: NDArray[np.float64], observed: int, states: int
) -> NDArray[np.float64]:
    """Gradient of the log-probability that a Boltzmann-rational human is in a state, by the weights of the features.

    The human plans for `states` states, each worth its features times the weights, and is seen in the last.

    Args:
        mdp: the task, from the state that the human found.
        features: [S, F].
        weights: [F].
        observed: the state at the end.
        states: how many, the first and the last included.
    """
    shape = (mdp.num_states, mdp.num_actions)
    ends = np.arange(0, mdp.probability.size + 1, mdp.probability.shape[2])
    moves = csr_array((mdp.probability.ravel(), mdp.next_state.ravel(), ends), shape=(shape[0] * shape[1], shape[0]))
    back = moves.T.tocsr()

    def ahead(values: NDArray[np.float64]) -> NDArray[np.float64]:  # [S, F] -> [S, A, F], expected after a step
        return (moves @ values).reshape(*shape, -1)

    def reached(values: NDArray[np.float64]) -> NDArray[np.float64]:  # [S, A, F] -> [S, F], summed where they arrive
        return back @ values.reshape(shape[0] * shape[1], -1)

    worth = features @ weights
    value, total = worth, features
    policies, gradients = [], []
    for _ in range(states - 1):
        action_values = worth[:, None] + ahead(value)[:, :, 0]
        value = logsumexp(action_values, axis=1)
        policy = np.exp(action_values - value[:, None])
        # Of log pi(a | s): the features to come after the action less those to come on average.
        to_come = features[:, None] + ahead(total)
        total = (policy[:, :, None] * to_come).sum(axis=1)
        policies.append(policy)
        gradients.append(to_come - total[:, None])
    chance, slope = mdp.start, np.zeros_like(features)  # of being in each state, and its gradient
    for policy, gradient in zip(reversed(policies), reversed(gradients), strict=True):
        taken = chance[:, None] * policy
        slope = reached(taken[:, :, None] * gradient + policy[:, :, None] * slope[:, None])
        chance = reached(taken)[:, 0]
    return slope[observed] / chance[observed]


def inferred(level: str, seed: int) -> NDArray[np.float64]:
    """The weights of the features that RLSP infers from the state that the human left behind."""
    human, current = compile_mdp(level, start_from="human"), compile_mdp(level)
    features = np.array([human.features(state) for state in human.states])
    observed = human.index(current.states[int(np.argmax(current.start))])
    weights = FIRST * np.random.default_rng(seed).standard_normal(features.shape[1])
    for _ in range(STEPS):
        prior = -weights / PRIOR_DEVIATION**2
        weights = weights + RATE * (likelihood_gradient(human, features, weights, observed, STATES[level]) + prior)
    return weights


def task_with(level: str, more: NDArray[np.float64]) -> TabularMDP:
    """The level, whose agent is also told `more` weights of features."""
    mdp = compile_mdp(level)
    worth = np.array([mdp.features(state) for state in mdp.states]) @ more
    return replace(mdp, reward=mdp.reward + np.where(mdp.probability > 0, worth[:, None, None], 0.0))


def main() -> None:
    options = arguments(__doc__, __file__, quick="one seed of RLSP, and without Apples")
    said = published("shah2019")
    cells, numbers = [], []
    for place, level in enumerate(said["levels"]):
        if options.quick and level == "Apples":
            continue
        mdp = compile_mdp(level)
        best = planned(replace(mdp, reward=mdp.performance))
        returns = {"true reward": [best]}
        returns |= {name: [planned(mdp, penalty)] for name, penalty in PENALTIES.items()}
        seeds = range(1 if options.quick else 10)
        returns["RLSP"] = [planned(task_with(level, inferred(level, seed))) for seed in seeds]
        for name, row in said["fractions"].items():
            fractions = [(value + HORIZON) / (best + HORIZON) for value in returns[name]]
            drawn = [digits(FRACTIONS, name, level, row[place], fraction) for fraction in fractions]
            text = ", ".join(dict.fromkeys(cell.reproduced for cell in drawn))
            agree = all(cell.verdict == AGREES for cell in drawn)
            cells.append(replace(drawn[0], reproduced=text, verdict=verdict(agree)))
            numbers.append((f"{level}, {name}", float(row[place]), float(np.mean(fractions))))
        for name, row in said["returns"].items():
            if row[place]:
                cells.append(digits(RETURNS, f"best for the {name}", level, row[place], returns[name][0]))
    cells.sort(key=lambda cell: cell.table)
    conclude(options.out, cells, {"fractions.png": plot_numbers(numbers, label=FRACTIONS)})


if __name__ == "__main__":
    main()
