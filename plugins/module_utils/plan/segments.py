"""What tensors take of a GPU once torch's caching allocator has put them into segments. Bytes throughout.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.11 (`round_size`, `get_allocation_size`, `should_split`,
`get_free_block`), its settings as they are without PYTORCH_CUDA_ALLOC_CONF.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

MIB = 2**20
BLOCK = 512  # kMinBlockSize: every tensor is rounded up to it
SMALL, SMALL_SEGMENT = MIB, 2 * MIB  # kSmallSize, kSmallBuffer: tensors up to the one lie in segments of the other
LARGE, LARGE_SEGMENT = 10 * MIB, 20 * MIB  # kMinLargeAlloc, kLargeBuffer: the same of tensors below the one
ROUND = 2 * MIB  # kRoundLarge: a larger tensor has a segment of its own, rounded up to it


def reserved(sizes: Iterable[float]) -> int:
    """Bytes of the segments that hold tensors of these sizes, allocated in this order and never freed."""
    own = small = shared = 0
    left: list[int] = []  # free at the end of shared segments, ascending
    for wanted in sizes:
        size = math.ceil(wanted / BLOCK) * BLOCK
        if size <= SMALL:
            small += size
        elif size >= LARGE:
            own += math.ceil(size / ROUND) * ROUND
        else:
            place = bisect.bisect_left(left, size)  # the tightest that holds it
            if place == len(left):
                shared += LARGE_SEGMENT
            rest = (left.pop(place) if place < len(left) else LARGE_SEGMENT) - size
            if rest > SMALL:  # what is less is not split off
                bisect.insort(left, rest)
    return own + shared + math.ceil(small / SMALL_SEGMENT) * SMALL_SEGMENT
