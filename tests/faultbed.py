"""Short runs of `paceline chaos` for tests: the plan, the run, and the result that must have kept every promise."""

from typing import Any

from paceline.chaos.catalogue import chosen
from paceline.chaos.plan import Plan
from paceline.chaos.result import Result
from paceline.chaos.run import run

SEED = 20_251_125
"""The same in every run, so that a failure is repeated by running the test again; the long runs take others."""


def planned(faults: str = "", count: int | None = None, **changed: Any) -> Plan:
    """A plan that ends by the count, or by `lasting_s`; no faults: only the load."""
    is_ours = changed.get("target") is None
    settings = {
        "seed": SEED,
        "lasting_s": None,
        "count": count,
        "pause_s": 0.05,
        "connections": 50,
        "idle_s": 0.5,
        **changed,
    }
    return Plan(faults=chosen(faults.split(), is_ours=is_ours) if faults else (), **settings)


def suffer(faults: str, count: int, **changed: Any) -> Result:
    """Run it.  Raises AssertionError, with the table, unless every promise was kept."""
    result = run(planned(faults, count, **changed))
    show(result)
    assert not result.broken, "\n".join(each.what for each in result.broken)
    assert result.injected == count
    assert result.tally.sent == result.tally.answered + result.lost
    assert result.rest is None or result.rest.zombies == 0
    return result


def show(result: Result) -> None:
    """The table, which pytest shows when the test fails."""
    from paceline.chaos.report import text_of

    print(text_of(result))
