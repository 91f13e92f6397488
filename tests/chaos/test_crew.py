"""chaos/crew.py and load.py: the load process is told, is heard, and is gone at the end."""

import os
import signal
from contextlib import closing

import pytest

from faultbed import planned
from leftovers import children_of, is_alive
from paceline.chaos.crew import Crew
from paceline.errors import HostError

pytestmark = pytest.mark.usefixtures("nothing_left")


def heard(crew: Crew, word: str) -> object:
    """What it says under this word, at last."""
    for _ in range(100):
        for message in crew.wait_heard(0.1):
            if word in message:
                return message[word]
    raise AssertionError(f"it did not say {word}")


def test_it_reports_and_has_a_result_when_it_is_told_to_stop() -> None:
    with closing(Crew(planned())) as crew:
        assert heard(crew, "progress") == {"sent": 0, "answered": 0, "connected": 0}
        crew.tell(halt=True)
        assert heard(crew, "halted") is True
        crew.tell(stop=True)
        result = heard(crew, "result")
    assert isinstance(result, dict)
    assert result["sent"] == 0


def test_one_that_dies_is_named_with_how() -> None:
    with closing(Crew(planned())) as crew:
        heard(crew, "progress")
        (pid,) = [pid for pid in children_of(os.getpid()) if is_alive(pid)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(HostError, match=rf"the load process \(pid {pid}\) was killed by SIGKILL before the end"):
            heard(crew, "never")


def test_where_nobody_listens_each_attempt_is_a_loss() -> None:
    with closing(Crew(planned(connections=2))) as crew:
        crew.tell(places=[[2, ["127.0.0.1", 1]]], server=0, folder="")
        loss = heard(crew, "loss")
        assert isinstance(loss, dict)
        assert (loss["how"], loss["messages"], loss["pid"]) == ("refused", 0, 0)
