"""chaos/schedule.py: which fault comes when, from the seed alone."""

from collections import Counter
from itertools import islice

from paceline.chaos.catalogue import chosen
from paceline.chaos.schedule import first_steps, steps

FAULTS = chosen(["kill", "reload", "reset"], is_ours=True)


def test_a_seed_repeats_it() -> None:
    assert list(islice(steps(7, FAULTS, 0.3), 50)) == list(islice(steps(7, FAULTS, 0.3), 50))
    assert list(islice(steps(7, FAULTS, 0.3), 50)) != list(islice(steps(8, FAULTS, 0.3), 50))


def test_the_chance_of_a_step_is_its_own() -> None:
    one, other = islice(steps(7, FAULTS, 0.3), 2)
    assert one.chance().random() == one.chance().random() != other.chance().random()


def test_each_kind_comes_as_often_as_its_weight_says() -> None:
    deck = sum(fault.weight for fault in FAULTS)
    found = Counter(step.fault.name for step in islice(steps(1, FAULTS, 0), 3 * deck))
    assert found == {fault.name: 3 * fault.weight for fault in FAULTS}


def test_pauses_are_about_what_was_asked_for() -> None:
    pauses = [step.pause_s for step in islice(steps(1, FAULTS, 0.5), 2_000)]
    assert 0 <= min(pauses) <= max(pauses) <= 1.0
    assert 0.45 < sum(pauses) / len(pauses) < 0.55


def test_steps_are_numbered_from_one() -> None:
    assert [step.number for step in islice(steps(1, FAULTS, 0), 20)] == list(range(1, 21))


def test_without_faults_there_are_no_steps() -> None:
    assert list(steps(1, (), 0.3)) == []


def test_how_it_begins_in_words() -> None:
    names = [step.fault.name for step in islice(steps(3, FAULTS, 0.3), 2)]
    assert first_steps(3, FAULTS, 0.3, 2) == f"{names[0]}, {names[1]}, …"
