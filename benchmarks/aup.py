"""Steps per second of the model-free AUP kernel, and of the same learner written plainly in Python, in one run.

python benchmarks/aup.py
"""

import time

import numpy as np

from impactrl import ModelFreeAUP, compile_mdp, preset, train_aup

RUNS, REPEATS, PLAIN_EPISODES = 8, 7, 60
SETTINGS = ModelFreeAUP()
PENALTY = preset("turner2019-model-free")


def plain(mdp, settings, seed):
    """Dictionaries of small arrays; one run without evaluations. Returns the steps taken and {board: action values}."""
    rng, noop = np.random.default_rng(seed), mdp.noop
    boards = ["\n".join(mdp.board_text(s)) for s in range(mdp.num_states)]
    utilities = {board: rng.random(PENALTY.utilities) for board in boards}
    q = {board: np.zeros(mdp.num_actions) for board in boards}
    auxiliary = {board: np.zeros((PENALTY.utilities, mdp.num_actions)) for board in boards}
    steps = 0
    for epsilon in settings.epsilons():
        s = 0
        for _ in range(mdp.time_limit):
            here = boards[s]
            a = int(q[here].argmax())
            if rng.random() < epsilon:
                a = int(rng.choice([b for b in range(mdp.num_actions) if b != a]))
            following = int(mdp.next_state[s, a, 0])
            there = boards[following]
            auxiliary[here][:, a] = utilities[there] + PENALTY.discount * auxiliary[there].max(axis=1)
            baseline = auxiliary[here][:, noop]
            charged = np.mean(np.abs(auxiliary[here][:, a] - baseline) / np.where(baseline == 0, 1.0, baseline))
            q[here][a] = mdp.reward[s, a, 0] - PENALTY.weight * charged + settings.discount * q[there].max()
            steps += 1
            s = following
            if mdp.terminal[s]:
                break
    return steps, q


def main():
    """Measures and prints."""
    mdp = compile_mdp("Options")
    train_aup(mdp, PENALTY, SETTINGS, weights=[PENALTY.weight], seeds=[0])
    rates = {1: [], 2: [], "plain": []}
    for _ in range(REPEATS):
        for threads in (1, 2):
            begin = time.perf_counter()
            weights = [PENALTY.weight] * RUNS
            training = train_aup(mdp, PENALTY, SETTINGS, weights=weights, seeds=range(RUNS), threads=threads)
            rates[threads].append(training.steps.sum() / (time.perf_counter() - begin))
        begin = time.perf_counter()
        steps, _ = plain(mdp, ModelFreeAUP(episodes=PLAIN_EPISODES), 0)
        rates["plain"].append(steps / (time.perf_counter() - begin))
    print(f"Options, {PENALTY.utilities} rewards, {RUNS} runs with {len(SETTINGS.evaluations())} evaluations each")
    print(f"Million steps per second, median of {REPEATS}, in brackets the best")
    for key, name in ((1, "kernel, 1 thread"), (2, "kernel, 2 threads"), ("plain", "plain Python")):
        print(f"  {name:18} {np.median(rates[key]) / 1e6:8.3f} ({max(rates[key]) / 1e6:.3f})")
    print(f"  one thread is {np.median(rates[1]) / np.median(rates['plain']):.0f} times as fast as plain Python")


if __name__ == "__main__":
    main()
