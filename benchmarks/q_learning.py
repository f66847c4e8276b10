"""Steps per second of Q-learning, of its variants, and of the same learner written plainly in Python, in one run.

python benchmarks/q_learning.py
"""

import time
from dataclasses import replace

import numpy as np

from impactrl import Penalty, QLearning, compile_mdp, train

RUNS, REPEATS = 64, 7
SETTINGS = QLearning(episodes=2000, learning_rate=1.0)
VARIANTS = {
    "Sarsa": {"algorithm": "sarsa"},
    "expected Sarsa": {"algorithm": "expected_sarsa"},
    "double Q": {"algorithm": "double_q"},
    "Watkins Q(0.8)": {"trace_decay": 0.8},
    "rate 1 / n^0.7": {"learning_rate_schedule": "visits", "learning_rate_power": 0.7},
    "annealed weight": {"weight_schedule": "annealed", "weight_half_life": 10_000},
    "budget of 0.3": {"budget": 0.3},
}


def plain(impact, settings, seed):
    """Dictionaries and loops; one run without evaluations. Returns the steps taken and {state: action values}."""
    mdp, rng = impact.mdp, np.random.default_rng(seed)
    reward = impact.penalised_reward(1.0)
    rules = {
        (s, a): (int(mdp.next_state[s, a, 0]), float(reward[s, a, 0]), bool(mdp.terminal[mdp.next_state[s, a, 0]]))
        for s in range(mdp.num_states)
        for a in range(mdp.num_actions)
    }
    q = {s: [0.0] * mdp.num_actions for s in range(mdp.num_states)}
    steps = 0
    for epsilon in settings.epsilons():
        s = int(np.argmax(mdp.start))
        for _ in range(mdp.time_limit):
            u = rng.random()
            a = int(u / epsilon * mdp.num_actions) if u < epsilon else q[s].index(max(q[s]))
            following, paid, over = rules[s, a]
            target = paid if over else paid + settings.discount * max(q[following])
            q[s][a] += settings.learning_rate * (target - q[s][a])
            steps += 1
            s = following
            if over:
                break
    return steps, q


def rate(impact, settings, threads=1):
    """Million steps per second of a batch."""
    begin = time.perf_counter()
    training = train(impact, settings, weights=[1.0] * RUNS, seeds=range(RUNS), threads=threads)
    return training.steps.sum() / (time.perf_counter() - begin) / 1e6


def main():
    """Measures and prints."""
    impact = Penalty(weight=1.0).fit(compile_mdp("Options"))
    settings = {name: replace(SETTINGS, **variant) for name, variant in VARIANTS.items()}
    rates = {name: [] for name in ("1 thread", "2 threads", "plain Python", *settings)}
    for _ in range(REPEATS + 1):
        for threads, name in ((1, "1 thread"), (2, "2 threads")):
            rates[name].append(rate(impact, SETTINGS, threads))
        for name, variant in settings.items():
            rates[name].append(rate(impact, variant))
        begin = time.perf_counter()
        steps, _ = plain(impact, SETTINGS, 0)
        rates["plain Python"].append(steps / (time.perf_counter() - begin) / 1e6)
    print(
        f"Options, relative reachability, {RUNS} runs of {SETTINGS.episodes} episodes in a batch; million steps per "
        f"second, evaluations and\nimpact during training included; median and best of {REPEATS}, the first call "
        "(which compiles) left out"
    )
    plainly = np.median(rates["plain Python"][1:])
    for name, values in rates.items():
        median, best = np.median(values[1:]), max(values[1:])
        print(f"  {name:16s} {median:8.2f} {best:8.2f}   {median / plainly:5.0f} x plain Python")


if __name__ == "__main__":
    main()
