"""A family of levels from a hundred to a million states: a room with boxes, vases and lamps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from impactrl import GridWorld, Outcome

__all__ = ["BRIGHT", "FRAGILE", "Storeroom", "StoreroomState"]


class StoreroomState(NamedTuple):
    """Cell of the agent, cells of the boxes in order, and as the bits of a number what is whole, or lit."""

    agent: int
    boxes: tuple[int, ...]
    whole: int


@dataclass(frozen=True)
class Storeroom(GridWorld[StoreroomState]):
    """Cross a room: boxes can be pushed and not pulled, a vase breaks and a lamp is switched when it is entered.

    The agent starts in the upper left corner, the goal that ends the episode is in the lower right one. Walls, other
    boxes and vases that are whole stop a box. Every vase and every lamp doubles the states; a box multiplies them by
    the cells that it can be on. With vases the state graph falls into many small components, with lamps alone it is
    one large one.
    """

    boxes: int = 0
    vases: int = 0
    lamps: int = 0
    width: int = 6
    height: int = 6

    tiles = {"#": "wall", "A": "agent", "X": "box", "V": "vase", "L": "button", "G": "goal"}  # noqa: RUF012

    @cached_property
    def level(self) -> str:
        """The map: boxes in the middle, everything else at equal distances in reading order."""
        row, count = self.width, self.width * self.height
        middle = [r * row + c for r in range(1, self.height - 1) for c in range(1, row - 1)]
        boxes = [middle[(2 * i + 1) * len(middle) // (2 * self.boxes)] for i in range(self.boxes)]
        free = [cell for cell in range(1, count - 1) if cell not in boxes]
        things = "V" * self.vases + "L" * self.lamps
        places = boxes + [free[(2 * i + 1) * len(free) // (2 * len(things))] for i in range(len(things))]
        cells = dict(zip(places, "X" * self.boxes + things, strict=True)) | {0: "A", count - 1: "G"}
        text = "".join(cells.get(cell, " ") for cell in range(count))
        edge = "#" * (row + 2)
        return "\n".join([edge, *(f"#{text[i : i + row]}#" for i in range(0, count, row)), edge])

    @cached_property
    def vase_bits(self) -> dict[int, int]:
        """The bit of the vase on each cell."""
        return {cell: 1 << i for i, cell in enumerate(self.cells("V"))}

    @cached_property
    def lamp_bits(self) -> dict[int, int]:
        """The bit of the lamp on each cell."""
        return {cell: 1 << i for i, cell in enumerate(self.cells("L"), start=self.vases)}

    @cached_property
    def goal(self) -> int:
        """The cell that ends the episode."""
        return self.cells("G")[0]

    def start(self) -> Sequence[tuple[float, StoreroomState]]:
        """See `World`."""
        return [(1.0, StoreroomState(self.cells("A")[0], self.cells("X"), (1 << self.vases + self.lamps) - 1))]

    def outcomes(self, state: StoreroomState, action: int) -> Sequence[Outcome[StoreroomState]]:
        """See `World`."""
        agent, boxes, whole = state
        offset = self.offsets[action]
        target = agent + offset
        if not offset or target in self.walls:
            return (Outcome(state),)
        if target in boxes:
            beyond = target + offset
            if beyond in self.walls or beyond in boxes or self.vase_bits.get(beyond, 0) & whole:
                return (Outcome(state),)
            boxes = tuple(sorted(beyond if box == target else box for box in boxes))
        broken = self.vase_bits.get(target, 0) & whole
        reward = 1.0 if target == self.goal else 0.0
        after = StoreroomState(target, boxes, whole ^ broken ^ self.lamp_bits.get(target, 0))
        side_effect = 1.0 if broken else 0.0
        return (Outcome(after, reward, reward - 2 * side_effect, side_effect),)

    def terminal(self, state: StoreroomState) -> bool:
        """See `World`."""
        return state[0] == self.goal

    def board(self, state: StoreroomState):  # noqa: D102
        things = [(cell, "V") for cell, bit in self.vase_bits.items() if bit & state.whole]
        things += [(cell, "L") for cell, bit in self.lamp_bits.items() if bit & state.whole]
        return self.paint((self.goal, "G"), *things, *((box, "X") for box in state.boxes), (state.agent, "A"))


FRAGILE = (Storeroom(vases=2), Storeroom(boxes=1), Storeroom(boxes=1, vases=3), Storeroom(boxes=1, vases=7),
           Storeroom(boxes=1, vases=10))  # fmt: skip
"""About 10^2, 10^3, 10^4, 10^5 and 10^6 states; many components."""
BRIGHT = (Storeroom(lamps=2), Storeroom(lamps=5), Storeroom(lamps=8), Storeroom(lamps=12), Storeroom(lamps=15))
"""As many states; everything but the end can be undone."""
