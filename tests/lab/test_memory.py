"""lab/memory.py: what the kernel says, in bytes; nothing where it says nothing."""

from paceline.lab.memory import memory_of, parsed, touched_and_reserved

ROLLUP = """555ad5f22000-7ffc8d675000 ---p 00000000 00:00 0                          [rollup]
Rss:                1748 kB
Pss:                 256 kB
Pss_Dirty:           112 kB
Shared_Clean:       1596 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
VmFlags: rd wr
"""


def test_what_the_kernel_says_of_memory() -> None:
    assert parsed(ROLLUP) == {"pss_bytes": 256 << 10, "rss_bytes": 1748 << 10, "own_bytes": 152 << 10}
    assert parsed("") == {}


def test_memory_of_nobody_is_not_told() -> None:
    assert memory_of(0) == {}


def test_memory_is_told() -> None:
    rss, size = touched_and_reserved()
    assert 0 < rss <= size
