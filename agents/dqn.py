"""Deep Q-agents: their settings, what they return, and the doors to training. Needs the extra `deep` only to train."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.auxiliary import learned_penalty
from impactrl.errors import ImpactError, real_number, require_one_of, whole_number
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty

if TYPE_CHECKING:
    import gymnasium as gym

    from impactrl.agents.deep_policy import DeepPolicy

__all__ = [
    "DEEP_DIAGNOSTICS",
    "DQN",
    "DeepTraining",
    "DivergedWarning",
    "require_deep",
    "require_deep_learnable",
    "train_dqn",
    "train_dqn_on",
]

DEEP_DIAGNOSTICS = ("mean_error", "max_error", "rank_correlation")
"""What is reported of learned charges beside the outcomes, in order; see `DeepTraining`."""

NETWORKS = ("mlp", "cnn")
OBSERVATIONS = ("planes", "state")
MEMORIES = ("product", "state")
LOSSES = ("huber", "squared")
OPTIMISERS = ("adam", "sgd")
EPSILON_SCHEDULES = ("linear", "exponential")
IMPACTS = ("exact", "learned")
AUXILIARY_REWARDS = ("states", "linear", "encoder")


class DivergedWarning(UserWarning):
    """Some runs of a batch were stopped, since what they learned was not finite."""


@dataclass(frozen=True, kw_only=True)
class DQN:
    """Settings of a deep Q-network agent (Mnih et al. 2015, Nature 518) and of its usual improvements.

    Training is counted in environment steps. Learning from a step does not end at the time limit: the value of the
    state in which an episode is cut off counts, that of a terminal state does not (Pardo et al. 2018).

    Attributes:
        steps: of the environment.
        learning_rate: of the optimiser at first, above 0.
        learning_rate_end: at the end, above 0; it falls linearly. What was learned settles then: values of actions are
            often within a hundredth of each other.
        discount: of the penalised reward, in [0, 1].
        epsilon_start: share of random actions at first.
        epsilon_end: and from `exploration` on.
        epsilon_schedule: how it gets there: "linear" or "exponential".
        exploration: share of the steps over which it falls, in (0, 1].
        batch_size: transitions per update.
        buffer_size: transitions that are remembered, the oldest are forgotten first.
        learning_starts: steps before the first update.
        update_every: steps per update.
        target_every: updates after which the target network moves ...
        target_rate: ... so far towards the network, in (0, 1]: with `target_every` 1 and a small rate this is Polyak
            averaging; 1 is a copy.
        double: choose the next action by the network and value it by the target (van Hasselt et al. 2016).
        dueling: separate heads for the state's value and the actions' advantages (Wang et al. 2016).
        prioritised: replay what was mispredicted more often (Schaul et al. 2016), proportionally.
        priority_exponent: of the error, in [0, 1]; 0 is uniform.
        importance_exponent: of the correction at first, in [0, 1]; it rises linearly to 1 at the end of training.
        n_steps: of reward before bootstrapping (without a correction for exploring actions).
        loss: "huber" (squared up to errors of 1, then linear) or "squared".
        network: "mlp", or "cnn": 3x3 convolutions on the planes of the board before the layers.
        hidden: width of each layer. () is a linear network without a bias: on one-hot observations a table.
        channels: of each convolution of "cnn".
        optimiser: "adam" or "sgd".
        gradient_clip: largest norm of a gradient; 0: any.
        observation: what the network sees of a level: "planes", a 0/1 plane for each character of the board (an MLP
            leaves out what never changes); or "state", one-hot.
        memory: "product": it sees also what the baseline remembers, which makes the penalised task Markov; "state": the
            state alone.
        impact: "exact": charged by the penalty fitted to the level. "learned": by what it has learned of the penalty
            from the steps that it remembers, with networks of its own: attainable utility (one head for each auxiliary
            reward), relative reachability and future tasks (a goal-conditioned value), or step reversibility (which
            of two states comes first). The baseline is stepwise; without a no-op, attainable utility also has
            "average", "average_other", "random" and "adversarial".
        auxiliary_reward: of learned attainable utility, each between 0 and 1: "states", drawn for each state that can
            be told apart (Turner et al. 2020, arXiv 1902.09725); "linear", a random linear function of the observation;
            "encoder", a code that an autoencoder found in the first tenth of the updates (Turner et al. 2020, arXiv
            2006.06547, where it is a variational one).
        goals: of learned reachability, how many stored states are goals of an update, beside those arrived at.
        window: of learned reversibility, steps that two states are apart at most.
        threshold: of learned reversibility, in [0.5, 1): a step is irreversible if its order is surer than this. Below
            0.9, steps that the agent merely does not care to take back count, too
            (Grinsztajn et al. 2021, arXiv 2106.04480).
        evaluate_every: steps between greedy evaluations; a multiple of `update_every`, and at least the level's time
            limit. The last step is always followed by one.

    Raises:
        ImpactError: a value out of range; says what was expected.
    """

    steps: int = 40_000
    learning_rate: float = 2e-3
    learning_rate_end: float = 5e-5
    discount: float = 0.99
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    epsilon_schedule: str = "linear"
    exploration: float = 0.5
    batch_size: int = 32
    buffer_size: int = 50_000
    learning_starts: int = 500
    update_every: int = 4
    target_every: int = 1
    target_rate: float = 0.005
    double: bool = True
    dueling: bool = False
    prioritised: bool = False
    priority_exponent: float = 0.6
    importance_exponent: float = 0.4
    n_steps: int = 1
    loss: str = "huber"
    network: str = "mlp"
    hidden: tuple[int, ...] = (64, 64)
    channels: tuple[int, ...] = (16, 32)
    optimiser: str = "adam"
    gradient_clip: float = 10.0
    observation: str = "planes"
    memory: str = "product"
    impact: str = "exact"
    auxiliary_reward: str = "states"
    goals: int = 32
    window: int = 20
    threshold: float = 0.95
    evaluate_every: int = 2000

    def __post_init__(self) -> None:
        for name, allowed in (
            ("epsilon_schedule", EPSILON_SCHEDULES),
            ("loss", LOSSES),
            ("network", NETWORKS),
            ("optimiser", OPTIMISERS),
            ("observation", OBSERVATIONS),
            ("memory", MEMORIES),
            ("impact", IMPACTS),
            ("auxiliary_reward", AUXILIARY_REWARDS),
        ):
            require_one_of(name, getattr(self, name), allowed)
        for name in (
            "steps",
            "batch_size",
            "buffer_size",
            "update_every",
            "target_every",
            "n_steps",
            "goals",
            "window",
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), at_least=1))
        for name in ("double", "dueling", "prioritised"):
            if getattr(self, name) not in (False, True):  # a specification has them as 0 and 1
                raise ImpactError(f"{name} must be true or false, not {getattr(self, name)!r}")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name in ("hidden", "channels"):
            object.__setattr__(self, name, _widths(name, getattr(self, name)))
        object.__setattr__(self, "learning_starts", whole_number("learning_starts", self.learning_starts, at_least=0))
        object.__setattr__(self, "evaluate_every", whole_number("evaluate_every", self.evaluate_every, at_least=1))
        self._check_numbers()
        self._check_together()

    def _check_numbers(self) -> None:
        ranges = {
            "discount": (0.0, 1.0),
            "epsilon_start": (0.0, 1.0),
            "epsilon_end": (0.0, 1.0),
            "priority_exponent": (0.0, 1.0),
            "importance_exponent": (0.0, 1.0),
            "learning_rate": (0.0, np.inf),
            "learning_rate_end": (0.0, np.inf),
            "exploration": (0.0, 1.0),
            "target_rate": (0.0, 1.0),
            "gradient_clip": (0.0, np.inf),
            "threshold": (0.5, 1.0),
        }
        for name, (low, high) in ranges.items():
            value = real_number(name, getattr(self, name))
            if not (low <= value <= high and np.isfinite(value)):
                expected = f"in [{low:g}, {high:g}]" if np.isfinite(high) else f"a number of at least {low:g}"
                raise ImpactError(f"{name} must be {expected}, not {value:g}")
            object.__setattr__(self, name, value)
        for name in ("learning_rate", "learning_rate_end", "exploration", "target_rate"):
            if getattr(self, name) == 0:
                raise ImpactError(f"{name} must be above 0")
        if self.threshold == 1:
            raise ImpactError("threshold must be below 1: nothing is ever surer than that")
        if self.epsilon_schedule == "exponential" and min(self.epsilon_start, self.epsilon_end) == 0:
            raise ImpactError("an exponential schedule never reaches 0, nor leaves it: give both ends above 0")

    def _check_together(self) -> None:
        if self.network == "cnn" and self.observation != "planes":
            raise ImpactError("network='cnn' needs observation='planes'; a state's number has no neighbourhood")
        if self.network == "cnn" and not self.channels:
            raise ImpactError("network='cnn' needs at least one entry in channels")
        if self.dueling and not self.hidden:
            raise ImpactError(
                "a dueling network needs a hidden layer: its heads would be one linear function otherwise"
            )
        if self.buffer_size < max(self.batch_size, self.n_steps):
            raise ImpactError(
                f"buffer_size={self.buffer_size} holds no batch of {self.batch_size} transitions over {self.n_steps} "
                "steps; make it larger"
            )
        for name in ("steps", "evaluate_every"):
            if getattr(self, name) % self.update_every:
                raise ImpactError(
                    f"{name} must be a multiple of update_every={self.update_every}, not {getattr(self, name)}"
                )
        if self.learning_starts >= self.steps:
            raise ImpactError(
                f"learning_starts={self.learning_starts} leaves nothing of {self.steps} steps to learn in"
            )

    def evaluations(self) -> NDArray[np.int64]:
        """[E] after how many steps the greedy policy is evaluated.

        >>> DQN(steps=5000, evaluate_every=2000).evaluations().tolist()
        [2000, 4000, 5000]
        """
        regular = np.arange(self.evaluate_every, self.steps, self.evaluate_every, dtype=np.int64)
        return np.append(regular, np.int64(self.steps))


def _widths(name: str, given: Any) -> tuple[int, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ImpactError(f"{name} must be a list of whole numbers, not {given!r}")
    return tuple(whole_number(f"an entry of {name}", width, at_least=1) for width in given)


@dataclass(frozen=True, kw_only=True, eq=False)
class DeepTraining:
    """What a batch of R runs learned.

    Attributes:
        impact: what was played: the fitted penalty; it has X states.
        q: [R, X, A] final action values.
        evaluations: [E] steps after which the greedy policy was evaluated.
        history: [R, E, 5] exact expected columns of a greedy episode, in the order of `COLUMNS`; NaN from where a run
            was stopped. The impact is exact, also where it was learned; that of auxiliary rewards which a run has drawn
            for itself is the exact one of those rewards.
        during: [R, E, 5] the same columns as they came while learning: the mean over the training episodes that ended
            since the evaluation before; NaN where none did (the last evaluation may follow soon).
        loss: [R, E] mean loss of the updates since the evaluation before; NaN where there was none.
        diagnostics: [R, E, 3] of learned charges, in the order of `DEEP_DIAGNOSTICS`: mean and largest absolute
            difference from the exact ones (at weight 1), over all states and actions that the episode does not end in;
            and Spearman's rank correlation with them. None where the impact is exact.
        steps: [R] environment steps taken.
        stopped: [R] the step at which a run was stopped because what it learned was not finite; -1 for none.
    """

    impact: Impact
    q: NDArray[np.float64]
    evaluations: NDArray[np.int64]
    history: NDArray[np.float64]
    during: NDArray[np.float64]
    loss: NDArray[np.float64]
    diagnostics: NDArray[np.float64] | None
    steps: NDArray[np.int64]
    stopped: NDArray[np.int64]


def train_dqn(
    impact: Impact,
    settings: DQN,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int = 1,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    log: str | Path | None = None,
    progress: bool | None = None,
) -> DeepTraining:
    """Trains a batch of runs on one fitted penalty: level, replay and updates in one compiled program.

    On the CPU a run depends on its own weight and seed alone: bit for bit the same alone, in any batch, on any number
    of threads. On a GPU all runs of the batch are one program, whose sums may be rounded differently in another batch.

    Args:
        impact: the fitted penalty; its own weight is not used.
        settings: shared by the batch.
        weights: [R] penalty weights.
        seeds: [R] one per run.
        threads: how many runs to train at once on the CPU.
        device: "cpu" or "gpu".
        checkpoint: a folder in which the runs are kept after every evaluation; the same call goes on from there, bit
            for bit.
        log: a CSV file for the numbers of every evaluation: a row per run and evaluation.
        progress: show a bar; None: if there is a terminal.

    Returns:
        What was learned. Runs that diverged are stopped, and their history ends in NaN.

    Raises:
        ImpactError: the extra `deep` is not installed, there is no such device, weights and seeds of different length,
            a penalty that cannot be learned, or a checkpoint of something else.

    Warns:
        DivergedWarning: which runs were stopped.
    """
    require_deep()
    from impactrl.agents.deep.compiled import train_batch

    training = train_batch(
        impact,
        settings,
        weights=weights,
        seeds=seeds,
        threads=threads,
        device=device,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        log=None if log is None else Path(log),
        progress=progress,
    )
    diverged = np.flatnonzero(training.stopped >= 0).tolist()
    if diverged:
        listed = ", ".join(f"{i} (weight {weights[i]:g}, at step {training.stopped[i]})" for i in diverged)
        warnings.warn(
            f"{len(diverged)} of {len(seeds)} runs were stopped, since what they learned was not finite: {listed}. A "
            "smaller learning_rate or a gradient_clip may help",
            DivergedWarning,
            stacklevel=2,
        )
    return training


def train_dqn_on(
    env: "gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]",
    settings: DQN,
    *,
    seed: int,
    penalty: Penalty | None = None,
    noop: int | None = None,
    progress: bool | None = None,
) -> "DeepPolicy":
    """Trains one run on any Gymnasium environment with Discrete actions, single or vector, by the same updates.

    Observations are a Box (flattened for an "mlp", [channels, rows, columns] for a "cnn"; uint8 is scaled to [0, 1]) or
    Discrete (one-hot). Steps of all copies of a vector environment are counted together, in any of Gymnasium's three
    modes of starting anew. The settings `observation` and `memory` mean nothing here, and are refused; nor does
    `evaluate_every`: nothing is evaluated on the way, but see `DeepPolicy.episodes`.

    With `impact="exact"` the agent is paid what the environment pays: wrap it in `ImpactPenalty`. With
    `impact="learned"` the charges of `penalty` are learned and taken off, `penalty.weight` times. Observations that are
    equal are then taken for the same state.

    Args:
        env: is reset with the seed, and not closed.
        settings: of the agent.
        seed: of everything random; the same seed gives the same policy, if the environment is deterministic by its own.
        penalty: that is learned, or nothing.
        noop: number of the action that does nothing, which a learned penalty with the stepwise baseline compares with;
            None: that of an impactrl level.
        progress: show a bar; None: if there is a terminal.

    Returns:
        The greedy policy, and the episodes of its training.

    Raises:
        ImpactError: the extra `deep` is not installed, spaces that a network cannot see or choose from, settings that
            do not go together, a penalty that cannot be learned, or what was learned is not finite.

    >>> import gymnasium as gym
    >>> settings = DQN(steps=400, learning_starts=100, evaluate_every=100)
    >>> policy = train_dqn_on(gym.make("impactrl/Options-v0", observation="state"), settings, seed=0)
    >>> policy.values(0).shape, int(policy.episodes["length"].max())
    ((5,), 100)
    """
    require_deep()
    from impactrl.agents.deep.hosted import train_hosted

    return train_hosted(env, settings, seed=seed, penalty=penalty, noop=noop, progress=progress)


def require_deep_learnable(penalty: Penalty) -> None:
    """Raises unless a deep agent can learn the penalty; says which setting is in the way."""
    if penalty.deviation == "none":
        return
    if penalty.deviation == "attainable_utility":
        learned_penalty(penalty)
        return
    learnable: dict[str, tuple[Any, ...]] = {
        "deviation": ("attainable_utility", "relative_reachability", "future_tasks", "step_reversibility"),
        "baseline": ("stepwise", "none") if penalty.deviation == "future_tasks" else ("stepwise",),
        "rollout": (False,),
        "scale": ("none", "discount"),
        "norm": ("L1",),
        "horizon": (None,),
        "policy": (None,),
        "time_limit_ends": (False,),
        "goals": ("all",),
    }
    if penalty.deviation == "step_reversibility":
        learnable |= {"discount": (1.0,), "scale": ("none",)}
    for name, known in learnable.items():
        if getattr(penalty, name) not in known:
            raise ImpactError(
                f"deep agents cannot learn a penalty with {name}={getattr(penalty, name)!r}, only with "
                f"{' or '.join(map(repr, known))}; impact='exact' knows every penalty"
            )


def require_deep() -> None:
    """Raises unless the libraries of the extra `deep` are there."""
    missing = [name for name in ("jax", "optax", "equinox") if find_spec(name) is None]
    if missing:
        raise ImpactError(
            f"deep Q-agents need {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: "
            "pip install 'impactrl[deep]'"
        )
