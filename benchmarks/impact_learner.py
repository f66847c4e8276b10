"""Steps per second of the agent that learns its impact, and of relative reachability learned with dictionaries.

python benchmarks/impact_learner.py
"""

import time
from collections import defaultdict

import numpy as np

from impactrl import ImpactLearner, Penalty, compile_mdp, train_impact_learner

RUNS, REPEATS = 8, 5
SETTINGS = ImpactLearner(episodes=10_000, evaluate_every=1000)
SHORT = ImpactLearner(episodes=300, evaluate_every=300)
PENALTIES = {
    "none": Penalty(deviation="none"),
    "UR stepwise": Penalty(deviation="unreachability"),
    "RR stepwise": Penalty(),
    "RR stepwise, rollouts": Penalty(rollout=True),
    "RR inaction": Penalty(baseline="inaction"),
    "AU stepwise, 10 utilities": Penalty(deviation="attainable_utility", scale="discount"),
}


def plain(mdp, episodes, seed, *, discount=0.99):
    """Stepwise relative reachability with dictionaries, no rollouts, no evaluations. Returns the steps taken."""
    rng = np.random.default_rng(seed)
    follows, over = mdp.next_state[:, :, 0].tolist(), mdp.terminal.tolist()
    reward, actions = mdp.reward[:, :, 0].tolist(), mdp.num_actions
    q = defaultdict(lambda: [0.0] * actions)
    reach = defaultdict(dict)
    noop, steps = {}, 0
    for episode in range(episodes):
        epsilon = 1 - episode / max(1, episodes - 1)
        s = int(np.argmax(mdp.start))
        reach[s][s] = 1.0
        for _ in range(mdp.time_limit):
            u = rng.random()
            a = int(u / epsilon * actions) if u < epsilon else q[s].index(max(q[s]))
            t = follows[s][a]
            charge = 0.0
            if not over[t]:
                reach[t][t] = 1.0
                if a == mdp.noop:
                    noop[s] = t
                if reach[s].get(t, 0.0) < discount:
                    for x in list(reach):
                        for y, onward in list(reach[t].items()):
                            through = reach[x].get(s, 0.0) * discount * onward
                            if through > reach[x].get(y, 0.0):
                                reach[x][y] = through
                here, there = reach[t], reach[noop.get(s, s)]
                charge = sum(max(0.0, v - here.get(y, 0.0)) for y, v in there.items()) / len(reach)
            target = reward[s][a] - charge + (0.0 if over[t] else 0.99 * max(q[t]))
            q[s][a] += 0.1 * (target - q[s][a])
            s, steps = t, steps + 1
            if over[s]:
                break
    return steps


def rate(mdp, impact, settings):
    """Million steps per second of a batch, the best of some; seconds per run."""
    seconds = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        training = train_impact_learner(mdp, impact, settings, weights=[1.0] * RUNS, seeds=range(RUNS))
        seconds.append(time.perf_counter() - begin)
    return training.steps.sum() / min(seconds[1:]) / 1e6, min(seconds[1:]) / RUNS


def main():
    """Measures and prints."""
    print(f"{RUNS} runs in a batch on one thread, a model learned in each; million steps per second, best of {REPEATS}")
    for level in ("Box", "ConveyorVase", "SushiGoal"):
        mdp = compile_mdp(level)
        print(f"{level}, {mdp.num_states} states")
        for name, penalty in PENALTIES.items():
            speed, seconds = rate(mdp, penalty.fit(mdp), SETTINGS)
            print(f"  {name:26s} {speed:8.2f}   {1000 * seconds:6.1f} ms per run of {SETTINGS.episodes} episodes")
        begin = time.perf_counter()
        speed = plain(mdp, SHORT.episodes, 0) / (time.perf_counter() - begin) / 1e6
        ours, _ = rate(mdp, PENALTIES["RR stepwise"].fit(mdp), SHORT)
        print(
            f"  {'RR stepwise, dictionaries':26s} {speed:8.4f}   {SHORT.episodes} episodes; ours {ours / speed:.0f} x"
        )


if __name__ == "__main__":
    main()
