"""chaos/judge.py: which loss is explained by which wound."""

import json
from dataclasses import replace

import pytest

from paceline.chaos.catalogue import Loses
from paceline.chaos.judge import SLACK_S, How, Loss, Wound, explain

KILL = Wound("kill", 1, Loses.VICTIMS, (100,), 10.0, 10.2)
LOSS = Loss(How.RESET_AFTER, client=3, messages=1, is_fresh=False, pid=100, since_s=9.9, at_s=10.1)


@pytest.mark.parametrize(
    ("changed", "is_explained"),
    [
        ({}, True),
        ({"pid": 101}, False),  # another one answered on it
        ({"pid": 0}, True),  # it is not known who had it
        ({"since_s": 5.0}, True),  # a message that has been under way for long
        ({"at_s": 9.99}, False),  # before anybody was hit
        ({"at_s": 10.2 + SLACK_S / 2}, True),  # noticed a little later
        ({"at_s": 10.3 + SLACK_S}, False),  # long after the dead were gone
        ({"since_s": 10.3 + SLACK_S, "at_s": 12.0}, False),  # begun after it
        ({"how": How.PARKED, "messages": 0}, True),
        ({"how": How.PARKED, "messages": 0, "pid": 101}, False),
        ({"how": How.TIME_OUT, "at_s": 25.0}, True),  # the reply never came; that takes its time to be noticed
        ({"how": How.TIME_OUT, "at_s": 25.0, "pid": 101}, False),
    ],
)
def test_a_kill_explains_what_its_victim_had(changed: dict[str, object], is_explained: bool) -> None:
    loss = replace(LOSS, **changed)  # type: ignore[arg-type]
    assert explain(loss, [KILL], {}) is (KILL if is_explained else None)


def test_who_went_in_peace_before_may_have_handed_it_to_the_victim() -> None:
    loss = replace(LOSS, pid=99)
    assert explain(loss, [KILL], {99: 9.5}) is KILL
    assert explain(loss, [KILL], {99: 11.0}) is None, "it left only after that"


def test_a_fault_that_may_cost_nothing_explains_nothing() -> None:
    for pids in ((), (100,)):
        reload = Wound("reload", 2, Loses.NOTHING, pids, 10.0, 10.2)
        assert explain(LOSS, [reload], {}) is None
        assert explain(replace(LOSS, pid=0), [reload], {}) is None


def test_the_end_of_the_server_explains_all_of_that_time() -> None:
    end = Wound("supervisor", 2, Loses.ALL, (), 10.0, 10.2)
    assert explain(replace(LOSS, pid=7), [end], {}) is end
    assert explain(replace(LOSS, at_s=9.0, since_s=8.0), [end], {}) is None


def test_a_wound_that_is_still_open_explains_too() -> None:
    still = replace(KILL, to_s=float("inf"))
    assert explain(LOSS, [still], {}) is still


def test_the_newest_wound_that_fits_is_the_one() -> None:
    later = replace(KILL, step=2, from_s=10.05, to_s=10.3)
    assert explain(LOSS, [KILL, later], {}) is later


def test_a_loss_survives_json() -> None:
    assert Loss.from_json(json.loads(json.dumps(LOSS.to_json()))) == LOSS
