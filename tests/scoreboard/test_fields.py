"""The tables of the scoreboard make sense as tables: names, kinds, units, texts."""

import re

import pytest

from paceline.scoreboard.fields import (
    LINE_CELLS,
    THREAD,
    THREAD_FIELDS,
    THREAD_STATES,
    WORKER,
    WORKER_FIELDS,
    WORKER_STATES,
    Field,
    FieldKind,
    ThreadState,
    WorkerState,
)

ALL = [pytest.param(field, id=field.name) for field in WORKER_FIELDS + THREAD_FIELDS]


@pytest.mark.parametrize("field", ALL)
def test_a_name_says_its_unit_and_fits_into_every_reader(field: Field) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", field.name)
    assert field.name.endswith("_ns") == (field.unit == "ns")


@pytest.mark.parametrize("field", ALL)
def test_every_field_has_a_help_text(field: Field) -> None:
    assert len(field.help) >= 8
    assert not field.help.endswith(".")


@pytest.mark.parametrize("field", ALL)
def test_only_codes_have_words_and_every_counter_says_what_it_counts(field: Field) -> None:
    assert bool(field.codes) == (field.kind is FieldKind.CODE)
    assert len(set(field.codes)) == len(field.codes)
    if field.kind is FieldKind.COUNTER:
        assert field.unit


@pytest.mark.parametrize("fields", [WORKER_FIELDS, THREAD_FIELDS], ids=["worker", "thread"])
def test_no_name_occurs_twice_in_a_table(fields: tuple[Field, ...]) -> None:
    assert len({field.name for field in fields}) == len(fields)


def test_what_can_be_summed_has_one_meaning_in_both_tables() -> None:
    summed = [field.name for field in WORKER_FIELDS + THREAD_FIELDS if field.kind.adds]
    assert len(set(summed)) == len(summed)


def test_the_cells_are_numbered_as_the_tables_are_written() -> None:
    assert [WORKER[field.name] for field in WORKER_FIELDS] == list(range(len(WORKER_FIELDS)))
    assert [THREAD[field.name] for field in THREAD_FIELDS] == list(range(len(THREAD_FIELDS)))


@pytest.mark.parametrize(
    ("words", "states", "fields"),
    [(WORKER_STATES, WorkerState, WORKER_FIELDS), (THREAD_STATES, ThreadState, THREAD_FIELDS)],
    ids=["worker", "thread"],
)
def test_a_code_is_the_position_of_its_word(
    words: dict[str, int], states: type[WorkerState | ThreadState], fields: tuple[Field, ...]
) -> None:
    (state,) = (field for field in fields if field.name == "state")
    assert list(words.items()) == [(word, code) for code, word in enumerate(state.codes)]
    assert [int(member) for member in states] == list(range(len(state.codes)))


def test_a_row_that_nobody_touched_reads_as_free_and_none() -> None:
    assert WORKER_STATES["free"] == THREAD_STATES["none"] == 0


def test_what_a_thread_stores_at_every_call_lies_in_one_cache_line() -> None:
    assert {THREAD["state"] // LINE_CELLS, THREAD["calls"] // LINE_CELLS, THREAD["messages"] // LINE_CELLS} == {0}


@pytest.mark.parametrize("kind", FieldKind, ids=lambda kind: kind.name.lower())
def test_only_counters_continue_and_only_amounts_add(kind: FieldKind) -> None:
    assert kind.continues == (kind is FieldKind.COUNTER)
    assert kind.adds == (kind in {FieldKind.COUNTER, FieldKind.GAUGE})
