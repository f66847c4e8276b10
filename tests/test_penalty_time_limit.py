"""A time limit that counts as an end: the step at which an episode is cut off is charged like one that ends it."""

import numpy as np
from random_mdps import level, steps

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty

SETTINGS = {"baseline": "start", "deviation": "unreachability", "discount": 1.0, "nonterminal_weight": 0.25}


def charges(impact, actions):
    x, charged = impact.start_index(0), []
    for a in actions:
        charged.append(float(impact.unit_penalty[x, a, 0]))
        x = int(impact.mdp.next_state[x, a, 0])
    return charged, bool(impact.mdp.terminal[x])


def test_the_last_step_by_hand():
    # From 0 one can stay or go to 1, from 1 on to 2, and never back: 1 and 2 are charged 1.
    mdp = compile_mdp(steps([0, 1], [1, 2], [2, 2], time_limit=3))
    usual, counted = (Penalty(time_limit_ends=ends, **SETTINGS).fit(mdp) for ends in (False, True))
    assert charges(usual, [1, 1, 0]) == ([0.25, 0.25, 0.25], False)
    # The last step is charged for the pair before it, in full.
    assert charges(counted, [1, 1, 0]) == ([0.25, 0.25, 1.0], True)
    assert charges(counted, [0, 0, 1]) == ([0.0, 0.0, 0.0], True)
    assert charges(counted, [0, 1, 0]) == ([0.0, 0.25, 1.0], True)


def test_an_episode_of_one_step_is_charged_for_the_start_with_itself():
    mdp = compile_mdp(steps([0, 1], [1, 1], time_limit=1))
    assert charges(Penalty(time_limit_ends=True, **SETTINGS).fit(mdp), [1]) == ([0.0], True)


def test_steps_before_the_last_cost_what_they_do_otherwise():
    mdp = level("Offset")
    for baseline in ("start", "inaction", "stepwise"):
        usual, counted = (Penalty(baseline=baseline, time_limit_ends=ends).fit(mdp) for ends in (False, True))
        rng = np.random.default_rng(0)
        for _ in range(20):
            actions = rng.integers(0, 5, size=mdp.time_limit).tolist()
            mine, over = charges(counted, actions)
            theirs, _ = charges(usual, actions)
            assert over
            np.testing.assert_allclose(mine[:-1], theirs[:-1], atol=1e-12)
            np.testing.assert_allclose(mine[-1], theirs[-2], atol=1e-12)  # the pair before, at full weight
