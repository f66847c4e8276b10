"""Updates per second of the deep Q-agent, and of Stable-Baselines3's on the same level, in one run on the CPU.

python benchmarks/deep.py          # takes some minutes
python benchmarks/deep.py --quick  # fewer steps

Both have the same network, batch, replay and updates per step, and step through Box, whose exact penalty is part of the
reward; neither evaluates on the way more than at the end. Ours trains one run, and 32 on two threads; compiling comes
before. Without Stable-Baselines3 (extra `sb3`) only ours is measured.
"""

import argparse
import time

import gymnasium as gym

from impactrl import DQN, ImpactPenalty, Penalty, compile_mdp, train_dqn, train_dqn_on

try:
    import stable_baselines3
    import torch
except ModuleNotFoundError:
    stable_baselines3 = None

LEVEL, WEIGHT = "Box", 10.0
RUNS, THREADS, REPEATS = 32, 2, 5
STEPS, THEIR_STEPS = 40_000, 4_000
SHARED = {"batch_size": 32, "buffer_size": 50_000, "learning_starts": 100}
WIDTHS = (64, 64)
THEIRS = "Stable-Baselines3"


def settings(steps):
    """Ours: those of `DQN` by default are as theirs below, but for double Q-learning, which theirs does not have."""
    return DQN(
        steps=steps, evaluate_every=steps, hidden=WIDTHS, double=False, observation="state", memory="state", **SHARED
    )


def updates(steps):
    """How many there are in so many steps, by either."""
    return (steps - SHARED["learning_starts"]) // 4


def ours(runs, steps):
    """Seconds of a batch."""
    impact = Penalty().fit(compile_mdp(LEVEL))
    begin = time.perf_counter()
    train_dqn(impact, settings(steps), weights=[WEIGHT] * runs, seeds=range(runs), threads=THREADS, progress=False)
    return time.perf_counter() - begin


def environment():
    """Box with the penalty taken off the reward; states are seen one-hot by all."""
    return ImpactPenalty(gym.make(f"impactrl/{LEVEL}-v0", observation="state"), weight=WEIGHT)


def hosted(steps):
    """Seconds of ours on the environment, step by step."""
    env, chosen = environment(), DQN(steps=steps, evaluate_every=steps, hidden=WIDTHS, double=False, **SHARED)
    begin = time.perf_counter()
    train_dqn_on(env, chosen, seed=0, progress=False)
    return time.perf_counter() - begin


def theirs(steps):
    """Seconds of Stable-Baselines3's, on one thread: more wait for each other, for networks as small as these."""
    torch.set_num_threads(1)
    model = stable_baselines3.DQN(
        "MlpPolicy",
        environment(),
        train_freq=4,
        target_update_interval=4,
        tau=0.005,
        exploration_fraction=0.5,
        exploration_final_eps=0.1,
        max_grad_norm=10.0,
        policy_kwargs={"net_arch": list(WIDTHS)},
        seed=0,
        device="cpu",
        **SHARED,
    )
    begin = time.perf_counter()
    model.learn(steps)
    return time.perf_counter() - begin


def measure(steps, their_steps, repeats):
    """Best rates of several rounds, in updates per second: {what: rate}. All are measured in every round."""
    work = {
        "one run": (lambda: ours(1, steps), updates(steps)),
        f"{RUNS} runs, {THREADS} threads": (lambda: ours(RUNS, steps), RUNS * updates(steps)),
        "one run on the Gymnasium environment": (lambda: hosted(their_steps), updates(their_steps)),
    }
    if stable_baselines3 is not None:
        work[THEIRS] = (lambda: theirs(their_steps)), updates(their_steps)
    rates = {}
    for repeat in range(repeats + 1):
        for name, (run, count) in work.items():
            rate = count / run()
            if repeat:  # the first call compiles
                rates[name] = max(rate, rates.get(name, 0.0))
    return rates


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps, best of two")
    options = parser.parse_args()
    steps, their_steps, repeats = (4_000, 2_000, 2) if options.quick else (STEPS, THEIR_STEPS, REPEATS)
    rates = measure(steps, their_steps, repeats)
    print(
        f"{LEVEL}, penalty in the reward, layers of {WIDTHS}, batches of {SHARED['batch_size']}, an update every 4 "
        f"steps, environment\nincluded; updates per second, best of {repeats}, over {steps} steps where compiled and "
        f"{their_steps} elsewhere"
    )
    for name, rate in rates.items():
        ratio = f"{rate / rates[THEIRS]:8.1f} x {THEIRS}" if THEIRS in rates else ""
        print(f"  {name:42s}{rate:10.0f}{ratio}")
    if THEIRS not in rates:
        print("Stable-Baselines3 is not installed (pip install '.[sb3]'), so there is nothing to compare with")


if __name__ == "__main__":
    main()
