"""A deep Q-network to copy: numpy and Gymnasium alone, and an impact penalty in one line.

Trains on Box, where the shortest way to the goal pushes a box into a corner for good: without a penalty, and with
stepwise relative reachability. Prints what the greedy policies do, and writes `learning.png`.

    python experiments/dqn_from_scratch.py          # a minute on one core
    python experiments/dqn_from_scratch.py --quick  # some seconds: one seed, hardly anything is learned
"""

import argparse
from itertools import pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
from matplotlib.figure import Figure

import impactrl

WEIGHTS = {"no penalty": 0.0, "relative reachability": 30.0}
DISCOUNT = 0.99
HIDDEN = 64
LEARNING_RATE, LAST_LEARNING_RATE = 2e-3, 5e-5  # falls linearly
BATCH, BUFFER = 32, 50_000
LEARNING_STARTS, UPDATE_EVERY = 500, 4  # steps
TARGET_RATE = 0.005  # how far the target network follows in an update
EPSILON, EXPLORATION = 0.1, 0.5  # share of random actions at the end, share of training over which it falls from 1


def make_env(weight):
    """The task as the agent is paid for it; one step pays `reward - weight * impact`."""
    env = gym.make("impactrl/Box-v0", observation="planes")
    env = impactrl.ImpactPenalty(env, deviation="relative_reachability", baseline="stepwise", weight=weight)
    return gym.wrappers.FlattenObservation(env)


class Network:
    """Two layers of rectifiers and a linear one, trained by Adam (Kingma and Ba 2015)."""

    def __init__(self, inputs, outputs, rng):
        sizes = [inputs, HIDDEN, HIDDEN, outputs]
        self.parameters = []
        for before, after in pairwise(sizes):
            self.parameters += [rng.normal(0, np.sqrt(2 / before), (before, after)), np.zeros(after)]
        self.mean = [np.zeros_like(p) for p in self.parameters]
        self.square = [np.zeros_like(p) for p in self.parameters]
        self.updates = 0

    def layers(self, x):
        """The inputs of every layer, and the outputs of the last."""
        values = [x]
        for i in range(0, len(self.parameters), 2):
            x = values[-1] @ self.parameters[i] + self.parameters[i + 1]
            values.append(np.maximum(x, 0) if i + 2 < len(self.parameters) else x)
        return values

    def __call__(self, x):
        """The outputs [..., A] of inputs [..., I]."""
        return self.layers(x)[-1]

    def improve(self, x, action, target, learning_rate):
        """One step towards [B] targets of the actions taken, by the gradient of the Huber loss."""
        values = self.layers(x)
        rows = np.arange(len(x))
        slope = np.zeros_like(values[-1])
        slope[rows, action] = np.clip(values[-1][rows, action] - target, -1, 1) / len(x)
        gradients = []
        for i in range(len(self.parameters) - 2, -1, -2):
            below = values[i // 2]
            gradients = [below.T @ slope, slope.sum(axis=0), *gradients]
            slope = slope @ self.parameters[i].T * (below > 0)
        self.updates += 1
        for p, g, m, v in zip(self.parameters, gradients, self.mean, self.square, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g**2 - v)
            m_hat, v_hat = m / (1 - 0.9**self.updates), v / (1 - 0.999**self.updates)
            p -= learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)

    def follow(self, other, rate):
        """Moves so far towards another network; 1 is a copy."""
        for mine, theirs in zip(self.parameters, other.parameters, strict=True):
            mine += rate * (theirs - mine)


def train(weight, steps, evaluate_every, seed):
    """Double DQN. Returns the steps at which the greedy policy was evaluated, and what it did: [E, 3]."""
    env, rng = make_env(weight), np.random.default_rng([seed, 1])
    inputs, actions = env.observation_space.shape[0], env.action_space.n
    network, target = Network(inputs, actions, rng), Network(inputs, actions, rng)
    target.follow(network, 1.0)
    seen, following = np.zeros((2, BUFFER, inputs), dtype=np.float32)
    action, reward, terminal = np.zeros(BUFFER, dtype=int), np.zeros(BUFFER), np.zeros(BUFFER, dtype=bool)
    curve = []

    observation, _ = env.reset(seed=seed)
    for step in range(steps):
        epsilon = max(EPSILON, 1 - (1 - EPSILON) * step / (EXPLORATION * steps))
        chosen = int(rng.integers(actions)) if rng.random() < epsilon else int(network(observation).argmax())
        arrived, paid, terminated, truncated, _ = env.step(chosen)
        # Only an end that the task knows stops the future; after a time limit it would have gone on.
        i = step % BUFFER
        seen[i], action[i], reward[i], following[i], terminal[i] = observation, chosen, paid, arrived, terminated
        observation = env.reset()[0] if terminated or truncated else arrived

        if step >= LEARNING_STARTS and step % UPDATE_EVERY == 0:
            j = rng.integers(min(step + 1, BUFFER), size=BATCH)
            best = network(following[j]).argmax(axis=1)
            ahead = np.where(terminal[j], 0.0, target(following[j])[np.arange(BATCH), best])
            rate = LEARNING_RATE + step / steps * (LAST_LEARNING_RATE - LEARNING_RATE)
            network.improve(seen[j], action[j], reward[j] + DISCOUNT * ahead, rate)
            target.follow(network, TARGET_RATE)
        if (step + 1) % evaluate_every == 0:
            curve.append((step + 1, *evaluate(network, weight)))
    return np.array(curve)


def evaluate(network, weight):
    """Hidden performance, side effects and completion of a greedy episode, of which only `info` tells."""
    env = make_env(weight)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(int(network(observation).argmax()))
        over = terminated or truncated
    return info["performance"], info["side_effect"], info["completed"]


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
    parser.add_argument("--out", type=Path, default=Path("out") / "dqn_from_scratch", help="folder for the figure")
    parser.add_argument("--quick", action="store_true", help="1 seed of 2 000 steps instead of 5 of 40 000")
    options = parser.parse_args()
    seeds, steps, every = (1, 2000, 500) if options.quick else (5, 40_000, 2000)

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
