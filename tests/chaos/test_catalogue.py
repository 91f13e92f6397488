"""chaos/catalogue.py: the table of faults, and who may be asked for which."""

import pytest

from paceline.chaos.catalogue import ROWS, TABLE, Loses, chosen
from paceline.chaos.drivers import DRIVERS
from paceline.chaos.plan import Plan
from paceline.errors import UsageError
from paceline.events import TABLE as EVENTS
from paceline.settings.table import BY_KEY


def test_each_fault_has_a_driver_and_each_driver_a_row() -> None:
    assert DRIVERS.keys() == TABLE.keys()
    assert len(ROWS) == len(TABLE), "no name twice"


def test_what_the_server_may_say_is_what_it_can_say() -> None:
    said = set().union(*(row.says for row in ROWS))
    assert said <= EVENTS.keys()


def test_a_fault_that_ends_the_server_may_cost_all() -> None:
    assert all((row.loses is Loses.ALL) == row.ends for row in ROWS)


def test_by_default_there_is_nothing_that_ends_the_server() -> None:
    found = chosen([], is_ours=True)
    assert found
    assert not any(row.ends for row in found)
    assert not any(row.ours for row in chosen([], is_ours=False))


def test_an_abuse_costs_nobody_else_anything_and_needs_settings_that_there_are() -> None:
    abuses = [row for row in ROWS if row.attackers]
    assert abuses
    assert all((row.loses, row.ours, row.is_default) == (Loses.NOTHING, True, False) for row in abuses)
    plan = Plan(seed=1, faults=tuple(abuses))
    for need in (need for row in abuses for need in row.needs):
        name, value = need.format(**plan.needs()).split("=")
        setting = BY_KEY[name.replace("-", "_")]
        setting.kind.read(value)


def test_faults_come_in_the_order_of_the_table_each_once() -> None:
    assert [row.name for row in chosen(["reload", "kill", "kill"], is_ours=True)] == ["kill", "reload"]
    assert chosen(["all"], is_ours=True) == ROWS
    assert "hang" not in [row.name for row in chosen(["all"], is_ours=False)]


def test_who_asks_for_what_is_not_there_is_told_what_is() -> None:
    with pytest.raises(UsageError, match="there is no fault 'kil'; there is kill, segv, "):
        chosen(["kil"], is_ours=True)
    with pytest.raises(UsageError, match="'hang' needs an application that does as it is told") as caught:
        chosen(["hang"], is_ours=False)
    assert "with yours there is kill, segv, abort" in str(caught.value)
