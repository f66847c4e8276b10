"""Stable-Baselines3's DQN with an impact penalty, to copy: the agent knows nothing of it.

Trains on Box, where the shortest way to the goal pushes a box into a corner for good: without a penalty, and with
stepwise relative reachability. Prints what the greedy policies do, and writes `learning.png`. The same without
Stable-Baselines3 is `dqn_from_scratch.py`.

    pip install 'impactrl[sb3]'
    python experiments/dqn_stable_baselines3.py          # four minutes on one core
    python experiments/dqn_stable_baselines3.py --quick  # some seconds: one seed, hardly anything is learned
"""

import argparse
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

import impactrl

try:
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.callbacks import BaseCallback
except ModuleNotFoundError as missing:
    sys.exit(f"this example needs Stable-Baselines3 ({missing}): pip install 'impactrl[sb3]'")

WEIGHTS = {"no penalty": 0.0, "relative reachability": 30.0}
SETTINGS = {
    "learning_rate": lambda left: 5e-5 + left * (2e-3 - 5e-5),  # falls linearly
    "gamma": 0.99,
    "batch_size": 32,
    "buffer_size": 50_000,
    "learning_starts": 500,
    "train_freq": 2,
    "target_update_interval": 2,  # with every update the target network follows ...
    "tau": 0.005,  # ... so far
    "exploration_fraction": 0.5,
    "exploration_final_eps": 0.1,
    "policy_kwargs": {"net_arch": [128, 128]},
    "device": "cpu",
}


def make_env(weight):
    """The task as the agent is paid for it; one step pays `reward - weight * impact`."""
    env = gym.make("impactrl/Box-v0", observation="planes")
    env = impactrl.ImpactPenalty(env, deviation="relative_reachability", baseline="stepwise", weight=weight)
    return gym.wrappers.FlattenObservation(env)


def evaluate(model, weight):
    """Hidden performance, side effects and completion of a greedy episode, of which only `info` tells."""
    env = make_env(weight)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        action, _ = model.predict(observation, deterministic=True)
        observation, _, terminated, truncated, info = env.step(int(action))
        over = terminated or truncated
    return info["performance"], info["side_effect"], info["completed"]


class Curve(BaseCallback):
    """Evaluates the greedy policy every so many steps."""

    def __init__(self, weight, every):
        super().__init__()
        self.weight, self.every, self.rows = weight, every, []

    def _on_step(self):
        if self.num_timesteps % self.every == 0:
            self.rows.append((self.num_timesteps, *evaluate(self.model, self.weight)))
        return True


def train(weight, steps, evaluate_every, seed):
    """[E, 4] the steps at which the greedy policy was evaluated, and what it did."""
    curve = Curve(weight, evaluate_every)
    DQN("MlpPolicy", make_env(weight), seed=seed, **SETTINGS).learn(steps, callback=curve)
    return np.array(curve.rows)


def draw(curves):
    """Means over seeds against steps, a line for each weight."""
    figure = Figure(figsize=(6.9, 2.8), layout="constrained")
    for ax, (column, name) in zip(figure.subplots(1, 2), ((1, "performance"), (2, "side effects")), strict=True):
        for label, runs in curves.items():
            ax.plot(runs[0, :, 0], runs[:, :, column].mean(axis=0), marker=".", label=label)
        ax.set(xlabel="steps", ylabel=name)
        ax.grid(alpha=0.3)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out") / "dqn_stable_baselines3", help="folder for the figure")
    parser.add_argument("--quick", action="store_true", help="1 seed of 2 000 steps instead of 3 of 40 000")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more get into each other's way, for networks as small as these
    seeds, steps, every = (1, 2000, 500) if options.quick else (3, 40_000, 2000)

    curves = {}
    print(f"Box, {steps} steps: greedy episodes at the end, means of {seeds} seed(s)")
    print(f"{'':24}{'performance':>12}{'side effects':>14}{'completed':>11}")
    for name, weight in WEIGHTS.items():
        curves[name] = np.array([train(weight, steps, every, seed) for seed in range(seeds)])
        performance, side_effect, completed = curves[name][:, -1, 1:].mean(axis=0)
        print(f"{name:24}{performance:12.1f}{side_effect:14.1f}{completed:11.1f}")
    options.out.mkdir(parents=True, exist_ok=True)
    impactrl.save_figure(draw(curves), options.out / "learning.png")
    print(f"The learning curves are in {options.out / 'learning.png'}")


if __name__ == "__main__":
    main()
