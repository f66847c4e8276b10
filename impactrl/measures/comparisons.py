"""What a penalty compares: where steps led, with what a baseline stands for."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from impactrl.measures.baselines import Nodes, Reference

__all__ = ["Comparisons"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparisons:
    """P comparisons of where steps led with what they are compared with.

    Attributes:
        node: [P, K] where each step led; K = 1 unless all its outcomes are judged at once.
        probability: [P, K] of each; sums to 1.
        memory: [P] which of the M references each is compared with.
        reference: the M references.
        to_go: [P] for how many steps both sides then do nothing before they are compared; 0 without such rollouts.
    """

    node: Nodes
    probability: NDArray[np.float64]
    memory: Nodes
    reference: Reference
    to_go: Nodes

    def __len__(self) -> int:
        return len(self.memory)

    def part(self, rows: "Nodes | slice") -> Self:
        """Some of the comparisons."""
        return type(self)(
            node=self.node[rows],
            probability=self.probability[rows],
            memory=self.memory[rows],
            reference=self.reference,
            to_go=self.to_go[rows],
        )
