"""Which cores we may use: the parsing by texts as real machines have them, and the real machine's answer."""

import os
from collections.abc import Mapping

import pytest

from paceline.host.cpu import choose, quota_cores, usable_cores

V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
)
V1_IN_DOCKER = "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
SERVICE = "/sys/fs/cgroup/system.slice/x.service/cpu.max"


def v1(folder: str, quota: str, period: str = "100000\n") -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}


@pytest.mark.parametrize(
    ("own", "mounts", "files", "cores"),
    [
        pytest.param("0::/system.slice/x.service\n", V2, {SERVICE: "150000 100000\n"}, 1.5, id="2"),
        pytest.param("0::/system.slice/x.service\n", V2, {SERVICE: "max 100000\n"}, None, id="2 without a quota"),
        pytest.param("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5, id="2 in a container"),
        pytest.param("0::/\n", V2, {}, None, id="2 on the root, which has no file"),
        pytest.param(
            "0::/system.slice/x.service\n",
            V2,
            {SERVICE: "max 100000\n", "/sys/fs/cgroup/system.slice/cpu.max": "300000 100000"},
            3.0,
            id="2: the outer group's quota holds as well",
        ),
        pytest.param(
            "0::/system.slice/x.service\n",
            V2,
            {SERVICE: "400000 100000\n", "/sys/fs/cgroup/system.slice/cpu.max": "300000 100000"},
            3.0,
            id="2: the smallest holds",
        ),
        pytest.param("0::/../other\n", V2, {"/sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0, id="2 outside the mount"),
        pytest.param("5:cpu,cpuacct:/a\n", V1, v1("/sys/fs/cgroup/cpu,cpuacct/a", "250000\n"), 2.5, id="1"),
        pytest.param("5:cpu,cpuacct:/a\n", V1, v1("/sys/fs/cgroup/cpu,cpuacct/a", "-1\n"), None, id="1 without"),
        pytest.param("5:cpu,cpuacct:/a/b\n", V1, v1("/sys/fs/cgroup/cpu,cpuacct", "100000"), 1.0, id="1: outer"),
        pytest.param("5:cpu:/docker/abc\n", V1_IN_DOCKER, v1("/sys/fs/cgroup/cpu", "50000"), 0.5, id="1 in Docker"),
        pytest.param("5:cpuset:/a\n", V1, v1("/sys/fs/cgroup/cpuset/a", "50000"), None, id="1: another controller"),
        pytest.param(
            "5:cpu,cpuacct:/a\n0::/\n", V1 + V2, v1("/sys/fs/cgroup/cpu,cpuacct/a", "50000"), 0.5, id="both, 1 has it"
        ),
        pytest.param(
            "0::/a\n",
            "29 23 0:26 / /my\\040groups rw - cgroup2 none rw\n",
            {"/my groups/a/cpu.max": "100000 100000"},
            1.0,
            id="a mount point with a space",
        ),
        pytest.param("0::/a:b\n", V2, {"/sys/fs/cgroup/a:b/cpu.max": "100000 50000"}, 2.0, id="a path with a colon"),
        pytest.param("", "", {}, None, id="no /proc"),
        pytest.param("nonsense\n\n:::\n", "nonsense\n - \nx - cgroup2\n", {}, None, id="nonsense"),
        pytest.param("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": "0 0"}, None, id="a period of 0"),
        pytest.param("0::/\n", V2, {"/sys/fs/cgroup/cpu.max": "12"}, None, id="half a line"),
    ],
)
def test_quota(own: str, mounts: str, files: Mapping[str, str], cores: float | None) -> None:
    assert quota_cores(own, mounts, files.get) == cores


@pytest.mark.parametrize(
    ("allowed", "existing", "quota", "count", "why"),
    [
        (2, 2, None, 2, "the machine has 2"),
        (1, 8, None, 1, "8 exist, and the CPU affinity allows 1"),
        (8, 8, 2.0, 2, "a CPU quota of 2 cores (control group)"),
        (8, 8, 2.9, 2, "a CPU quota of 2.9 cores (control group)"),
        (8, 8, 0.25, 1, "a CPU quota of 0.25 cores (control group)"),
        (1, 8, 2.0, 1, "8 exist, and the CPU affinity allows 1"),
        (2, 2, 2.5, 2, "the machine has 2"),
    ],
)
def test_the_smaller_counts(allowed: int, existing: int, quota: float | None, count: int, why: str) -> None:
    assert choose(allowed, existing, quota) == (count, why)


def test_this_machine_has_cores_and_says_why() -> None:
    count, why = usable_cores()
    assert 1 <= count <= len(os.sched_getaffinity(0))
    assert why
