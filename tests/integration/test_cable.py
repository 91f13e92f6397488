"""A peer whose machine is gone, without a word: its connection is given up in the time that --keepalive says.

In a network of its own (tests/cable.py), because nothing of this machine's may be pulled.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("nothing_left")

PROGRAM = Path(__file__).parents[1] / "cable.py"


def may_have_a_network() -> bool:
    if any(shutil.which(tool) is None for tool in ("unshare", "ip", "ss")):
        return False
    return subprocess.run(("unshare", "-n", "ip", "link"), capture_output=True, check=False).returncode == 0


def test_a_cable_is_pulled() -> None:
    """The quiet one is missed by TCP keepalive, the one that is sent something by TCP_USER_TIMEOUT."""
    if not may_have_a_network():
        pytest.skip("this machine does not let us have a network of our own (unshare, CAP_NET_ADMIN), or lacks ip, ss")
    path = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        ("unshare", "-n", sys.executable, str(PROGRAM)),
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    assert "both gone after" in done.stdout
