"""Search in the state graph."""

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["UNREACHABLE", "shortest_distances"]

UNREACHABLE = -1


def shortest_distances(successors: NDArray[np.int32]) -> NDArray[np.int32]:
    """Fewest steps from every node to every other.

    Args:
        successors: [N, A] successor of each node under each action, negative where there is none.

    Returns:
        [N, N] int32, `d[x, y]` from x to y; `UNREACHABLE` where no path leads.

    >>> shortest_distances(np.array([[1], [2], [2]], dtype=np.int32)).tolist()
    [[0, 1, 2], [-1, 0, 1], [-1, -1, 0]]
    """
    distances: NDArray[np.int32] = _breadth_first(np.ascontiguousarray(successors, dtype=np.int32))
    return distances


@numba.njit(cache=True, nogil=True)
def _breadth_first(successors: NDArray[np.int32]) -> NDArray[np.int32]:
    count, degree = successors.shape
    distances = np.full((count, count), np.int32(UNREACHABLE), dtype=np.int32)
    queue = np.empty(count, dtype=np.int32)
    for source in range(count):
        row = distances[source]
        row[source] = 0
        queue[0] = source
        head, tail = 0, 1
        while head < tail:
            node = queue[head]
            head += 1
            for a in range(degree):
                successor = successors[node, a]
                if successor >= 0 and row[successor] == UNREACHABLE:
                    row[successor] = row[node] + 1
                    queue[tail] = successor
                    tail += 1
    return distances
