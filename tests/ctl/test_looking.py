"""Two looks at a server that runs, and at one that is no more."""

import subprocess

import pytest

from gates import FILES, LINES, Gate
from leftovers import eventually
from paceline.ctl import looking
from paceline.ctl.finding import NoServerError, Server
from paceline.ctl.looking import examine, look_at
from testbed import running

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_server_that_runs() -> None:
    with running("echo", "--workers", "2") as server:
        picture = look_at(Server(server.pid, None, addresses=("here",)), 0.01)
        assert sorted(worker.pid for worker in picture.workers) == sorted(server.pids())
        assert [worker.slot for worker in picture.workers] == [0, 1]
        assert picture.unhealthy_because == ""
        assert (picture.supervisor, picture.addresses, picture.generation) == ("running", ("here",), 1)
        assert 0 < picture.uptime_s < 60
        assert 0.01 <= picture.over_s < 10
        assert all(worker.rss_bytes and worker.rss_bytes > 1 << 20 for worker in picture.workers)


def test_one_that_is_full_is_unhealthy_until_a_call_ends() -> None:
    with (
        running(*LINES, "--workers", "1", "--threads", "1", files=FILES) as server,
        Gate(server) as gate,
    ):
        peer = server.connect()
        peer.send(f"wait {gate.name}\n".encode())
        gate.wait_reached()
        found = Server(server.pid, None)
        eventually(lambda: look_at(found, 0.01).workers[0].state == "saturated")
        picture = examine(found)
        assert "the one worker that serves are inside calls" in picture.unhealthy_because
        assert picture.over_s >= looking.SATURATED_S
        assert (picture.workers[0].long_calls, picture.workers[0].threads_busy) == (1, 1)
        gate.open()
        peer.line()
        eventually(lambda: not examine(found).unhealthy_because)


def test_one_that_has_ended() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(NoServerError, match="has just ended"):
        look_at(Server(gone.pid, None))
