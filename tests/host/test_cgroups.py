"""Control groups: where their files are (the finer points are in test_cpu.py), and what they say of memory."""

import pytest

from paceline.host.cgroups import count_oom_kills, folders

V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
UNIFIED = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("own", "mounts", "found"),
    [
        ("0::/a/b", V2, [(2, "/sys/fs/cgroup/a/b"), (2, "/sys/fs/cgroup/a"), (2, "/sys/fs/cgroup")]),
        ("4:memory:/a", V1, [(1, "/sys/fs/cgroup/memory/a"), (1, "/sys/fs/cgroup/memory")]),
        ("4:memory:/\n0::/\n", V1 + UNIFIED, [(1, "/sys/fs/cgroup/memory"), (2, "/sys/fs/cgroup/unified")]),
        ("0::/", "", []),
    ],
)
def test_folders_from_the_innermost_out(own: str, mounts: str, found: list[tuple[int, str]]) -> None:
    assert folders("memory", own, mounts) == found


@pytest.mark.parametrize(
    ("own", "mounts", "files", "kills"),
    [
        ("0::/a", V2, {"/sys/fs/cgroup/a/memory.events": "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"}, 2),
        ("4:memory:/a", V1, {"/sys/fs/cgroup/memory/a/memory.oom_control": "under_oom 0\noom_kill 5\n"}, 5),
        ("4:memory:/a", V1, {"/sys/fs/cgroup/memory/a/memory.oom_control": "oom_kill_disable 0\n"}, None),
        ("0::/a", V2, {}, None),
    ],
)
def test_oom_kills(own: str, mounts: str, files: dict[str, str], kills: int | None) -> None:
    assert count_oom_kills(files.get, (own, mounts)) == kills


def test_this_machine_answers_or_has_nothing_to_say() -> None:
    kills = count_oom_kills()
    assert kills is None or kills >= 0
