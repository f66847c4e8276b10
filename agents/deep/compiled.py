"""Deep Q-agents on compiled levels: the runs of a batch, their evaluations, and what is kept of them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.deep.attainable import AttainableUtility
from impactrl.agents.deep.checkpoint import load, save
from impactrl.agents.deep.devices import device_named
from impactrl.agents.deep.diagnostics import Judge
from impactrl.agents.deep.level import Level, level_of
from impactrl.agents.deep.program import SUMS, Run, advance, advance_all, forget_sums, new_run
from impactrl.agents.deep.rules import rule_of
from impactrl.agents.deep.scalars import write_scalars
from impactrl.agents.deep.update import Rule
from impactrl.agents.dqn import DEEP_DIAGNOSTICS, DQN, DeepTraining
from impactrl.agents.tabular import Task, evaluate, require_seeds, run_all, task_of
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS, Impact
from impactrl.progress import progress_bar

__all__ = ["train_batch"]


class Records(NamedTuple):
    """What is reported of R runs at E evaluations; see `DeepTraining`. Filled in place."""

    q: NDArray[np.float64]
    history: NDArray[np.float64]
    during: NDArray[np.float64]
    loss: NDArray[np.float64]
    diagnostics: NDArray[np.float64]
    steps: NDArray[np.int64]
    stopped: NDArray[np.int64]


def train_batch(
    impact: Impact,
    settings: DQN,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int,
    device: str,
    checkpoint: Path | None,
    log: Path | None,
    progress: bool | None,
) -> DeepTraining:
    """`train_dqn`, once JAX is known to be there; without the warning."""
    require_seeds(weights, seeds)
    where = device_named(device)
    _require_fitting(impact, settings)
    with jax.default_device(where):
        level = level_of(impact, settings)
        rule = rule_of(
            settings,
            impact.penalty,
            level.observation.shape[1:],
            actions=impact.mdp.num_actions,
            noop=impact.mdp.noop,
            states=int(level.identity.max()) + 1,
        )
    evaluations = settings.evaluations()
    records = _new_records(len(seeds), len(evaluations), impact)
    batch = _Batch(
        impact=impact,
        task=task_of(impact, np.arange(impact.mdp.num_states)),
        rule=rule,
        level=level,
        judge=Judge(impact, rule, level),
        weights=np.asarray(weights, dtype=np.float32),
        keys=np.stack([_key(seed) for seed in seeds]) if len(seeds) else np.zeros((0, 2), np.uint32),
        records=records,
        checkpoint=checkpoint,
    )
    # On the CPU every run is a program of its own, so that its numbers do not depend on the others.
    groups = [[i] for i in range(len(seeds))] if device == "cpu" else [list(range(len(seeds)))]
    with progress_bar(progress) as bar:
        task = bar.add_task("training", total=len(groups) * len(evaluations))

        def run(i: int) -> None:
            with jax.default_device(where):
                batch.train(groups[i], lambda: bar.advance(task))

        run_all(run, len(groups), threads)
    training = DeepTraining(
        impact=impact,
        evaluations=evaluations,
        **records._replace(diagnostics=None if rule.impact is None else records.diagnostics)._asdict(),  # type: ignore[arg-type]
    )
    if log is not None:
        write_scalars(log, training, weights)
    return training


@dataclass(frozen=True, eq=False)
class _Batch:
    """What the runs of a batch share, R of them."""

    impact: Impact
    task: Task
    rule: Rule
    level: Level
    judge: Judge
    weights: NDArray[np.float32]
    keys: NDArray[np.uint32]
    records: Records
    checkpoint: Path | None

    def train(self, members: list[int], advanced: Callable[[], object]) -> None:
        """Trains some runs: one as it is, several as one program."""
        runs = jax.vmap(lambda key: new_run(self.rule, self.level, key))(jnp.asarray(self.keys[members]))
        evaluations = self.rule.settings.evaluations()
        path = None if self.checkpoint is None else self.checkpoint / f"run-{members[0]}.npz"
        begun = 0
        if path is not None and path.exists():
            runs, begun = self._resume(path, members, runs)
        units = self._units(runs)
        for e, until in enumerate(evaluations.tolist()):
            if e >= begun and (self.records.stopped[members] < 0).any():
                runs, values = self._advance(members, runs, units, int(evaluations[e - 1]) if e else 0, until)
                if self.rule.settings.auxiliary_reward == "encoder":  # all other rewards are those of the beginning
                    units = self._units(runs)
                self._record(members, e, runs, units, np.asarray(values, dtype=np.float64))
                runs = forget_sums(runs)
                if path is not None:
                    save(path, self._description(members), runs, self._kept(members, e + 1))
            advanced()

    def _advance(
        self, members: list[int], runs: Run, units: NDArray[np.float64], step: int, until: int
    ) -> tuple[Run, jax.Array]:
        weights = jnp.asarray(self.weights[members])
        unit = jnp.asarray(units, dtype=jnp.float32)
        if len(members) > 1:
            together: tuple[Run, jax.Array] = advance_all(self.rule, self.level, unit, runs, weights, step, until)
            return together
        own = unit[0] if units.ndim > self.impact.deviation.ndim else unit
        advanced = advance(self.rule, self.level, own, _one(runs, 0), weights[0], step, until)
        several: tuple[Run, jax.Array] = jax.tree.map(lambda array: array[None], advanced)
        return several

    def _units(self, runs: Run) -> NDArray[np.float64]:
        """[X, A, K] the exact charges at weight 1; [n, X, A, K] where runs have drawn rewards of their own."""
        if not isinstance(self.rule.impact, AttainableUtility):
            return self.impact.unit_penalty
        return np.stack([self.judge.unit_penalty(_one(runs.learner, m)) for m in range(len(runs.place))])

    def _record(
        self, members: list[int], e: int, runs: Run, units: NDArray[np.float64], values: NDArray[np.float64]
    ) -> None:
        """Fills in what is reported of an evaluation; stops what is not finite."""
        records, until = self.records, self.rule.settings.evaluations()[e]
        offset = np.zeros(len(COLUMNS))
        offset[COLUMNS.index("performance")] = self.impact.mdp.initial_performance
        during, episodes, loss, losses = (np.asarray(getattr(runs, name), dtype=np.float64) for name in SUMS)
        for m, member in enumerate(members):
            if records.stopped[member] >= 0:
                continue
            records.steps[member] = until
            if not (np.isfinite(values[m]).all() and np.isfinite(loss[m])):
                records.stopped[member] = until
                continue
            records.q[member] = values[m]
            unit = units[m] if units.ndim > self.impact.deviation.ndim else units
            records.history[member, e] = self._evaluated(values[m], unit) + offset
            if episodes[m]:
                records.during[member, e] = during[m] / episodes[m] + offset
            records.loss[member, e] = loss[m] / losses[m] if losses[m] else np.nan
            if self.rule.impact is not None:
                records.diagnostics[member, e] = self.judge.diagnostics(_one(runs.learner, m), unit)

    def _evaluated(self, values: NDArray[np.float64], unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """[5] exact expected columns of a greedy episode."""
        columns = np.concatenate([self.task.columns[..., :3], unit[..., None]], axis=3)
        result = np.zeros(len(COLUMNS))
        evaluate(self.task._replace(columns=columns), values.argmax(axis=1), result)
        return result

    def _description(self, members: list[int]) -> dict[str, Any]:
        """What a checkpoint of some runs belongs to."""
        digest = hashlib.sha256()
        for array in self.level:
            digest.update(np.asarray(array).tobytes())
        digest.update(self.impact.unit_penalty.tobytes())
        return {
            "architecture": str(self.rule.architecture),
            "settings": asdict(self.rule.settings),
            "task": digest.hexdigest()[:16],
            "penalty": self.impact.penalty.label,
            "weights": self.weights[members].tolist(),
            "seeds": self.keys[members].tolist(),
        }

    def _kept(self, members: list[int], evaluations: int) -> dict[str, NDArray[Any]]:
        """The records of some runs, as a checkpoint has them."""
        named = {name: array[members] for name, array in self.records._asdict().items()}
        return named | {"evaluations": np.array(evaluations)}

    def _resume(self, path: Path, members: list[int], runs: Run) -> tuple[Run, int]:
        """Goes back to where a checkpoint was written: the runs, and how many evaluations there were."""
        runs, kept = load(path, self._description(members), runs)
        for name, array in self.records._asdict().items():
            array[members] = kept[name]
        return runs, int(kept["evaluations"])


def _new_records(runs: int, evaluations: int, impact: Impact) -> Records:
    nothing = np.full((runs, evaluations, len(COLUMNS)), np.nan)
    return Records(
        q=np.zeros((runs, impact.mdp.num_states, impact.mdp.num_actions)),
        history=nothing,
        during=nothing.copy(),
        loss=np.full((runs, evaluations), np.nan),
        diagnostics=np.full((runs, evaluations, len(DEEP_DIAGNOSTICS)), np.nan),
        steps=np.zeros(runs, dtype=np.int64),
        stopped=np.full(runs, -1, dtype=np.int64),
    )


def _require_fitting(impact: Impact, settings: DQN) -> None:
    """Raises if settings and task do not go together."""
    mdp, penalty = impact.mdp, impact.penalty
    if settings.evaluate_every < mdp.time_limit:
        raise ImpactError(
            f"evaluate_every must be at least the level's time limit of {mdp.time_limit} steps, so that an episode "
            f"ends in between, not {settings.evaluate_every}"
        )
    differences = "relative_reachability", "future_tasks"
    if settings.impact == "learned" and penalty.deviation in differences and not mdp.deterministic:
        raise ImpactError(
            f"a learned {penalty.deviation} is a difference of expected values, and in this world steps are random; "
            "use impact='exact', or attainable_utility with expectation='inside'"
        )


def _key(seed: int | np.random.SeedSequence) -> NDArray[np.uint32]:
    sequence = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return sequence.generate_state(2, np.uint32).astype(np.uint32)


def _one(tree: Any, index: int) -> Any:
    """The tree of one run."""
    return jax.tree.map(lambda array: array[index], tree)
