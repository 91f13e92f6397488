"""chaos/tally.py: what the clients have counted."""

import json

from paceline.chaos.tally import Tally


def test_answers_are_counted_with_how_long_they_took() -> None:
    tally = Tally(sent=3)
    for waited_ns in (1_000_000, 90_000_000, 2_000_000):
        tally.on_answer(4, waited_ns)
    assert tally.answered == tally.waits.count == 3
    assert tally.worst_ns == {4: 90_000_000}


def test_a_tally_survives_json() -> None:
    tally = Tally(sent=2, connections=1, versions=7)
    tally.on_answer(1, 5_000)
    tally.wrong["answered twice"] += 1
    assert Tally.from_json(json.loads(json.dumps(tally.to_json()))) == tally
