"""Long trainings: checkpoints, runs that diverge, and the file of scalars."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_cases import SMALL, corridor, small

from impactrl.agents.deep import checkpoint, compiled
from impactrl.agents.dqn import DEEP_DIAGNOSTICS, DQN, DeepTraining, DivergedWarning, train_dqn
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS, Impact
from impactrl.measures.penalty import Penalty

AUP = Penalty(
    deviation="attainable_utility",
    utilities=3,
    discount=0.9,
    scale="sum",
    terminal="absorbing",
    expectation="inside",
)
LEARNED = small(impact="learned", prioritised=True, n_steps=2, goals=4)
ENCODED = small(impact="learned", auxiliary_reward="encoder")
CASES: dict[str, tuple[Penalty, DQN]] = {
    "exact": (Penalty(), SMALL),
    "learned reachability, prioritised": (Penalty(), LEARNED),
    "learned utility of an encoder": (AUP, ENCODED),
}
WEIGHTS, SEEDS = [0.3, 1.0], [5, 1]


def impact_of(penalty: Penalty) -> Impact:
    return penalty.fit(corridor())


def trained(penalty: Penalty, settings: DQN, **where: Any) -> DeepTraining:
    given: dict[str, Any] = {"weights": WEIGHTS, "seeds": SEEDS, "progress": False} | where
    return train_dqn(impact_of(penalty), settings, **given)


def equal(ours: DeepTraining, theirs: DeepTraining) -> None:
    for name in ("q", "history", "during", "loss", "steps", "stopped", "evaluations"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    if ours.diagnostics is not None or theirs.diagnostics is not None:
        np.testing.assert_array_equal(ours.diagnostics, theirs.diagnostics)  # type: ignore[arg-type]


def keep_all(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[Path]]:
    """Every checkpoint that is written stays, under a name of its own."""
    written: dict[Path, list[Path]] = {}

    def save(path: Path, *given: Any) -> None:
        checkpoint.save(path, *given)
        kept = written.setdefault(path, [])
        kept.append(Path(shutil.copy(path, path.with_suffix(f".{len(kept)}"))))

    monkeypatch.setattr(compiled, "save", save)
    return lambda path: written[path]


# Checkpoints


@pytest.mark.parametrize("case", CASES)
def test_going_on_from_a_checkpoint_is_bit_for_bit_the_same(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalty, settings = CASES[case]
    kept = keep_all(monkeypatch)
    whole = trained(penalty, settings, checkpoint=tmp_path / "whole")
    equal(whole, trained(penalty, settings))
    names = [tmp_path / "whole" / f"run-{r}.npz" for r in range(2)]
    moments = [kept(name) for name in names]
    assert [len(files) for files in moments] == [3, 3]
    for moment in range(3):
        folder = tmp_path / f"after {moment + 1}"
        folder.mkdir()
        shutil.copy(moments[0][moment], folder / "run-0.npz")  # the other run begins anew
        equal(whole, trained(penalty, settings, checkpoint=folder))
        assert len(kept(folder / "run-1.npz")) == 3
        if moment < 2:
            assert len(kept(folder / "run-0.npz")) == 2 - moment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a short training."""
    path = tmp_path_factory.mktemp("checkpoints")
    trained(Penalty(), SMALL, checkpoint=path)
    return path


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "architecture": (
        {"settings": replace(SMALL, hidden=(5,))},
        [r"observation \(\d+,\), hidden \(4,\)", r"observation \(\d+,\), hidden \(5,\)"],
    ),
    "settings": (
        {"settings": replace(SMALL, discount=0.5)},
        ["it has settings.discount 0.99;", "this run has settings.discount 0.5"],
    ),
    "weight": ({"weights": [0.4, 1.0]}, [r"it has weights \[0.3", r"this run has weights \[0.4"]),
    "seed": ({"seeds": [6, 1]}, ["seeds .* this run has seeds"]),
    "penalty": (
        {"penalty": Penalty(discount=0.5)},
        ["it has penalty RR stepwise;", "this run has penalty RR stepwise discount=0.5"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_checkpoint_of_something_else_is_refused_with_both_descriptions(what: str, folder: Path) -> None:
    changed, texts = REFUSED[what]
    with pytest.raises(ImpactError) as refused:
        trained(**{"penalty": Penalty(), "settings": SMALL, "checkpoint": folder} | changed)
    message = str(refused.value)
    assert "run-0.npz is a checkpoint of something else" in message
    assert "Give another folder, or delete it to begin anew" in message
    for text in texts:
        assert re.search(text, message), message
    assert "learning_rate" not in message  # what is the same is not listed


def test_a_checkpoint_of_another_task_is_refused(folder: Path) -> None:
    with pytest.raises(ImpactError, match=r"it has task .*; this run has task "):
        train_dqn(
            Penalty().fit(corridor(time_limit=19)),
            SMALL,
            weights=WEIGHTS,
            seeds=SEEDS,
            checkpoint=folder,
            progress=False,
        )


def test_a_checkpoint_of_another_format_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(ImpactError, match=r"it has format 1; this run has format 2"):
        trained(Penalty(), SMALL, checkpoint=folder)


@pytest.mark.parametrize("how", ["empty", "cut off", "text", "a bit flipped"])
def test_a_damaged_checkpoint_is_one_clear_error(how: str, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "run-0.npz").read_bytes()
    middle = len(whole) // 2
    damaged = {
        "empty": b"",
        "cut off": whole[:middle],
        "text": b"what is this?",
        "a bit flipped": whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :],
    }[how]
    (tmp_path / "run-0.npz").write_bytes(damaged)
    with pytest.raises(ImpactError, match=r"run-0.npz is no checkpoint of a deep agent .*; delete it to begin anew"):
        trained(Penalty(), SMALL, checkpoint=tmp_path)


def test_a_checkpoint_with_other_arrays_is_refused(folder: Path, tmp_path: Path) -> None:
    """As another version of a library might have written it."""
    with np.load(folder / "run-0.npz") as file:
        arrays = dict(file)
    for name, changed in {
        "fewer": {key: value for key, value in arrays.items() if key != "leaf/0"},
        "longer": arrays | {"leaf/0": np.append(arrays["leaf/0"], 0).astype(arrays["leaf/0"].dtype)},
        "wider": arrays | {"leaf/0": arrays["leaf/0"].astype(np.float64)},
        "more": arrays | {"leaf/999": np.zeros(1)},
    }.items():
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "run-0.npz", **changed)
        with pytest.raises(ImpactError, match="another version of jax, equinox or optax"):
            trained(Penalty(), SMALL, checkpoint=tmp_path / name)


def test_no_checkpoint_is_left_half_written(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["run-0.npz", "run-1.npz"]


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImpactError, match=r"cannot write the checkpoint .*run-0.npz: \w"):
        trained(Penalty(), SMALL, checkpoint=tmp_path / "file")


def test_the_description_names_everything_that_numbers_depend_on(folder: Path) -> None:
    with np.load(folder / "run-0.npz") as file:
        description = json.loads(file["description"].tobytes())
    assert description["settings"] == json.loads(json.dumps(asdict(SMALL)))
    assert set(description) == {"format", "architecture", "settings", "task", "penalty", "weights", "seeds"}


# Runs that diverge


def test_a_run_that_diverges_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    """A charge of 1e38 has a loss that overflows."""
    well = trained(Penalty(), SMALL)
    given: dict[str, Any] = {"weights": [0.3, 3e38, 1.0], "seeds": [5, 2, 1], "checkpoint": tmp_path}
    with pytest.warns(DivergedWarning, match=r"1 of 3 runs were stopped, .*: 1 \(weight 3e\+38, at step 40\)\. A smal"):
        done = trained(Penalty(), SMALL, **given)
    assert done.stopped.tolist() == [-1, 40, -1]
    assert done.steps.tolist() == [84, 40, 84]
    assert np.isnan(done.history[1]).all()
    assert np.isnan(done.loss[1]).all()
    for name in ("q", "history", "during", "loss"):
        np.testing.assert_array_equal(getattr(done, name)[[0, 2]], getattr(well, name))
    with pytest.warns(DivergedWarning):  # it stays stopped
        equal(trained(Penalty(), SMALL, **given), done)


def test_a_learning_rate_that_is_too_large_diverges() -> None:
    wild = small(learning_rate=1e30, learning_rate_end=1e30, gradient_clip=0.0, loss="squared")
    with pytest.warns(DivergedWarning, match="2 of 2 runs"):
        done = trained(Penalty(), wild)
    assert done.stopped.tolist() == [40, 40]
    assert np.isnan(done.history).all()


# The file of scalars


@pytest.mark.parametrize("case", ["exact", "learned reachability, prioritised"])
def test_the_numbers_of_every_evaluation_as_csv(case: str, tmp_path: Path) -> None:
    penalty, settings = CASES[case]
    path = tmp_path / "new folder" / "log.csv"
    done = trained(penalty, settings, log=path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    learned = [] if done.diagnostics is None else list(DEEP_DIAGNOSTICS)
    training = [f"training_{column}" for column in COLUMNS]
    assert list(rows[0]) == ["run", "weight", "step", "loss", *COLUMNS, *training, *learned]
    assert [(row["run"], row["weight"], row["step"]) for row in rows] == [
        (str(r), str(WEIGHTS[r]), str(step)) for r in range(2) for step in (40, 80, 84)
    ]
    for i, row in enumerate(rows):
        r, e = divmod(i, 3)
        assert np.float64(row["loss"]) == done.loss[r, e]
        np.testing.assert_array_equal([float(row[name]) for name in COLUMNS], done.history[r, e])
        np.testing.assert_array_equal([float(row[name]) for name in training], done.during[r, e])
        if done.diagnostics is not None:
            np.testing.assert_array_equal([float(row[name]) for name in learned], done.diagnostics[r, e])
    assert [entry.name for entry in path.parent.iterdir()] == ["log.csv"]


def test_a_stopped_run_has_no_rows_after_its_end(tmp_path: Path) -> None:
    with pytest.warns(DivergedWarning):
        trained(Penalty(), SMALL, weights=[3e38, 0.3], seeds=[2, 5], log=tmp_path / "log.csv")
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[:3] for line in lines[1:]] == [
        ["0", "3e+38", "40"],
        *(["1", "0.3", step] for step in ("40", "80", "84")),
    ]


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ImpactError, match=r"cannot write the log .*: \w"):
        trained(Penalty(), SMALL, log=tmp_path)
