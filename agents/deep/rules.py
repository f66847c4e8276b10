"""From settings and a penalty to the rule of an update: what is exact, what is learned, and by what."""

from dataclasses import replace

from impactrl.agents.auxiliary import for_task, learned_penalty
from impactrl.agents.deep.attainable import AttainableUtility
from impactrl.agents.deep.networks import Architecture
from impactrl.agents.deep.precedence import Precedence
from impactrl.agents.deep.reachability import Reachability
from impactrl.agents.deep.update import LearnedImpact, Rule
from impactrl.agents.dqn import DQN, require_deep_learnable
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty

__all__ = ["rule_of"]


def rule_of(
    settings: DQN, penalty: Penalty, observation: tuple[int, ...], *, actions: int, noop: int | None, states: int
) -> Rule:
    """The rule for an environment.

    Args:
        settings: of the agent.
        penalty: that it pays; its weight is not used.
        observation: shape of what the network sees.
        actions: how many there are.
        noop: index of the action that does nothing, if there is one.
        states: how many observations can be told apart; for utilities that are their indicators.

    Raises:
        ImpactError: a penalty that cannot be learned.
    """
    architecture = Architecture(
        observation=observation,
        outputs=actions,
        hidden=settings.hidden,
        channels=settings.channels if settings.network == "cnn" else (),
        dueling=settings.dueling,
    )
    impact = _learned(settings, penalty, architecture, noop, states) if settings.impact == "learned" else None
    return Rule(
        settings=settings,
        architecture=architecture,
        impact=impact,
        previous=penalty.terminal == "previous",
        nonterminal_weight=penalty.nonterminal_weight,
    )


def _learned(
    settings: DQN, penalty: Penalty, architecture: Architecture, noop: int | None, states: int
) -> LearnedImpact | None:
    """What a penalty is learned by; nothing where there is none."""
    require_deep_learnable(penalty)
    if penalty.deviation == "none":
        return None
    plain = replace(architecture, dueling=False)
    if penalty.deviation == "attainable_utility":
        learned = for_task(learned_penalty(penalty), noop, states)
        if learned.indicators and settings.auxiliary_reward != "states":
            raise ImpactError("utilities='states' are rewards of states: they go with auxiliary_reward='states'")
        return AttainableUtility(
            settings=settings,
            architecture=replace(plain, outputs=architecture.outputs * learned.rewards),
            penalty=learned,
        )
    if penalty.deviation == "step_reversibility":
        return Precedence(settings=settings, architecture=plain)
    if penalty.baseline != "none" and noop is None:
        raise ImpactError(
            f"{penalty.label} compares with doing nothing, and this world has no no-op action; of learned penalties, "
            "attainable_utility has baselines without one ('average')"
        )
    return Reachability(
        settings=settings,
        architecture=plain,
        noop=0 if noop is None else noop,
        discount=penalty.discount,
        summary=_summary(penalty),
        factor=1 - penalty.discount if penalty.scale == "discount" else 1.0,
        previous=penalty.terminal == "previous",
    )


def _summary(penalty: Penalty) -> str:
    if penalty.deviation == "future_tasks":
        return "own" if penalty.baseline == "none" else "least"
    return str(penalty.effective_summary)
