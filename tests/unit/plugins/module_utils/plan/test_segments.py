"""Segments of torch's caching allocator, counted by hand."""

from __future__ import annotations

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.plan.segments import MIB, reserved


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], 0),
        ([1], 2 * MIB),
        ([MIB, MIB], 2 * MIB),
        ([MIB, MIB, 1], 4 * MIB),
        ([513] * 2048, 2 * MIB),  # 1024 bytes each
        ([513] * 2049, 4 * MIB),
        ([MIB + 1], 20 * MIB),
        ([10 * MIB - 512], 20 * MIB),
        ([10 * MIB], 10 * MIB),
        ([10 * MIB + 1], 12 * MIB),
        ([8 * MIB, 6 * MIB, 4 * MIB, 2 * MIB], 20 * MIB),
        ([8 * MIB, 6 * MIB, 4 * MIB, 8 * MIB], 40 * MIB),
        ([9.5 * MIB, 9.5 * MIB, MIB + 1], 40 * MIB),  # the last MiB of a segment is not split off
        ([9 * MIB, 5 * MIB, 8 * MIB, 6 * MIB], 40 * MIB),  # 6 left of the first, 12 of the second: the tighter one
    ],
)
def test_tensors_take_the_segments_that_hold_them(sizes: list[float], expected: int) -> None:
    assert reserved(sizes) == expected
