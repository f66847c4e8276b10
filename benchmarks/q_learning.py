"""Steps per second of the Q-learning kernel, and of the same learner written plainly in Python, in one run.

python benchmarks/q_learning.py
"""

import time

import numpy as np

from impactrl import Penalty, QLearning, compile_mdp, train

RUNS, REPEATS = 64, 7
SETTINGS = QLearning(episodes=2000, learning_rate=1.0)


def plain(impact, settings, seed):
    """Dictionaries and loops; one run without evaluations. Returns the steps taken."""
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
    return steps


def main():
    """Measures and prints."""
    impact = Penalty(weight=1.0).fit(compile_mdp("Options"))
    train(impact, SETTINGS, weights=[1.0], seeds=[0])
    rates = {1: [], 2: [], "plain": []}
    for _ in range(REPEATS):
        for threads in (1, 2):
            begin = time.perf_counter()
            training = train(impact, SETTINGS, weights=[1.0] * RUNS, seeds=range(RUNS), threads=threads)
            rates[threads].append(training.steps.sum() / (time.perf_counter() - begin))
        begin = time.perf_counter()
        rates["plain"].append(plain(impact, SETTINGS, 0) / (time.perf_counter() - begin))
    print(f"Options, relative reachability, {RUNS} runs in a batch, evaluations included; median of {REPEATS}")
    median = {key: float(np.median(values)) / 1e6 for key, values in rates.items()}
    print(f"  kernel, 1 thread:  {median[1]:8.2f} million steps/s  ({median[1] / median['plain']:.0f} x plain Python)")
    print(f"  kernel, 2 threads: {median[2]:8.2f} million steps/s")
    print(f"  plain Python:      {median['plain']:8.2f} million steps/s")


if __name__ == "__main__":
    main()
