"""chaos/plan.py: what a run is asked to do, and the command that repeats it."""

import json
import shlex

from paceline.chaos.catalogue import chosen
from paceline.chaos.plan import Plan

OURS = Plan(seed=7, faults=chosen(["kill", "reload"], is_ours=True), count=5, lasting_s=None)
THEIRS = Plan(seed=7, faults=chosen(["kill"], is_ours=False), target="app:f", message=b"\xffx y", echo=True)


def test_a_plan_survives_json() -> None:
    for plan in (OURS, THEIRS):
        assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_the_command_of_an_abuse_has_its_size() -> None:
    plan = Plan(seed=7, faults=chosen(["drip"], is_ours=True), attackers=50, hold_s=2.0, deadline_s=4.0)
    assert " --attackers 50 --hold 2s --deadline 4s " in plan.command()
    assert plan.needs() == {"deadline": "4s", "connections": "300"}
    assert plan.most_connections() == 1_150


def test_the_command_repeats_all_that_matters() -> None:
    assert OURS.command() == (
        "paceline chaos --seed 7 --faults kill,reload --count 5 --connections 100 --workers 2 --rate 500 --pause 0.3s"
    )
    words = shlex.split(THEIRS.command())
    assert words[:6] == ["paceline", "chaos", "app:f", "--message", r"\xffx y", "--framing"]
    assert "--echo" in words
    assert "--for" in words
