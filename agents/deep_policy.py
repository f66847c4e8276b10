"""What a deep Q-agent learned on an environment: acting, values, and keeping it in a file."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from impactrl.agents.dqn import DQN, require_deep
from impactrl.errors import ImpactError

if TYPE_CHECKING:
    from impactrl.agents.deep.networks import Architecture, Network
    from impactrl.agents.deep.view import View

__all__ = ["DeepPolicy", "load_policy"]

KIND = "policy"


@dataclass(frozen=True, kw_only=True, eq=False)
class DeepPolicy:
    """The greedy policy of a trained network, A actions.

    Attributes:
        settings: of the agent.
        episodes: a row for each training episode that ended: `step`, how many environment steps there had been, of all
            copies together; `copy` of the environment; `return`, the sum of what the environment paid; `length`. Where
            the environment's `info` says so, also `reward`, the sum of `task_reward`, as it was before `ImpactPenalty`
            took anything off; `performance`, `side_effect` and `completed` at the end; and `impact`, the sum of
            `impact/deviation`.
        view: how the network sees observations.
        architecture: of the network.
        network: of action values.
        first_action: number of the first action.
    """

    settings: DQN
    episodes: pd.DataFrame = field(repr=False)
    view: "View"
    architecture: "Architecture"
    network: "Network" = field(repr=False)
    first_action: int = 0

    def values(self, observation: Any) -> NDArray[np.float64]:
        """[A] action values of an observation, or [B, A] of a batch.

        Raises:
            ImpactError: an observation unlike those of the environment that it was trained on.
        """
        require_deep()
        from impactrl.agents.deep.acting import action_values

        array = np.asarray(observation)
        alone = array.ndim == len(self.view.shape)
        values = action_values(self.view, self.network, self.view.stored(array[None] if alone else array))
        return values[0] if alone else values

    def act(self, observation: Any) -> Any:
        """The best action in an observation, an int; of a batch, [B] int64. The first of equals.

        Raises:
            ImpactError: an observation unlike those of the environment that it was trained on.
        """
        best = self.values(observation).argmax(axis=-1) + self.first_action
        return int(best) if best.ndim == 0 else best

    def save(self, path: str | Path) -> None:
        """Keeps it in a file, without pickle; see `load_policy`.

        Raises:
            ImpactError: the file cannot be written.
        """
        require_deep()
        from impactrl.agents.deep.checkpoint import save

        columns: dict[str, NDArray[Any]] = {str(name): self.episodes[name].to_numpy() for name in self.episodes}
        save(Path(path), self._description(), self.network, columns)

    def _description(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "settings": asdict(self.settings),
            "view": asdict(self.view),
            "architecture": asdict(self.architecture),
            "first_action": self.first_action,
        }


def load_policy(path: str | Path) -> DeepPolicy:
    """The policy that was kept in a file by `DeepPolicy.save`.

    Raises:
        ImpactError: the extra `deep` is not installed, there is no such file, or it is of another format or of
            something else; says what it is and what was expected.
    """
    require_deep()
    import jax

    from impactrl.agents.deep.checkpoint import description_of, load
    from impactrl.agents.deep.networks import Architecture, Network
    from impactrl.agents.deep.view import View

    path = Path(path)
    if not path.exists():
        raise ImpactError(f"there is no file {path}")
    found = description_of(path)
    if found.get("kind") != KIND:
        raise ImpactError(f"{path} is no policy that DeepPolicy.save kept, with kind='{KIND}': it has {found}")
    architecture = Architecture(**_tuples(found["architecture"]))
    like = Network(architecture, jax.random.key(0))
    network, columns = load(path, found, like)
    return DeepPolicy(
        settings=DQN(**found["settings"]),
        episodes=pd.DataFrame(columns),
        view=View(**_tuples(found["view"])),
        architecture=architecture,
        network=network,
        first_action=found["first_action"],
    )


def _tuples(entries: dict[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that they were."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entries.items()}
