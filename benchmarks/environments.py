"""Steps per second of the environments beside Gymnasium's FrozenLake, in one run.

python benchmarks/environments.py
"""

import time

import gymnasium as gym
import numpy as np

import impactrl

STEPS, COPIES, REPEATS = 20_000, 1024, 7


def single(env):
    """Steps per second of one environment under random actions."""
    actions = np.random.default_rng(0).integers(0, env.action_space.n, STEPS).tolist()
    env.reset(seed=0)
    begin = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return STEPS / (time.perf_counter() - begin)


def vector(env):
    """Steps per second of all copies of a vector environment under random actions."""
    rng = np.random.default_rng(0)
    actions = [rng.integers(0, env.single_action_space.n, COPIES) for _ in range(16)]
    env.reset(seed=0)
    begin = time.perf_counter()
    for i in range(200):
        env.step(actions[i % len(actions)])
    return 200 * COPIES / (time.perf_counter() - begin)


def main():
    """Measures and prints."""
    lake = gym.make("FrozenLake-v1")
    levels = ("Options", "Box", "Interference", "ConveyorVase", "Apples")
    singles = {(n, o): gym.make(f"impactrl/{n}-v0", observation=o) for n in levels for o in ("state", "board")}
    vectors = {
        (n, o): gym.make_vec(f"impactrl/{n}-v0", num_envs=COPIES, observation=o)
        for n in levels
        for o in ("state", "board")
    }
    for env in (lake, *singles.values()):
        single(env)
    rates = {key: [] for key in ("lake", *singles)}
    many = {key: [] for key in vectors}
    for _ in range(REPEATS):
        rates["lake"].append(single(lake))
        for key, env in singles.items():
            rates[key].append(single(env))
        for key, env in vectors.items():
            many[key].append(vector(env))
    base = float(np.median(rates["lake"]))
    print(f"Median of {REPEATS}; FrozenLake-v1 through gym.make: {base / 1e3:.0f} thousand steps/s")
    title = f"vector of {COPIES}, million/s"
    print(f"{'level':14s}{'observation':13s}{'single, thousand/s':>20s}{'x FrozenLake':>14s}{title:>29s}")
    for key in singles:
        one, all_ = float(np.median(rates[key])), float(np.median(many[key]))
        print(f"{key[0]:14s}{key[1]:13s}{one / 1e3:20.0f}{one / base:14.1f}{all_ / 1e6:29.1f}")

    begin = time.perf_counter()
    mdp = impactrl.compile_mdp("Sokocoin2")
    seconds = time.perf_counter() - begin
    arrays = [v for v in vars(mdp).values() if isinstance(v, np.ndarray)]
    count = mdp.num_states * mdp.num_actions
    size = sum(a.nbytes for a in arrays) / mdp.num_states
    print(f"compile_mdp, Sokocoin2: {count / seconds / 1e3:.0f} thousand transitions/s; {size:.0f} bytes a state")


if __name__ == "__main__":
    main()
