"""The table of rows holds together: what goals and tables refer to exists."""

import pytest

from benchmarks import handlers
from benchmarks.measure import words_of
from benchmarks.metrics import METRICS
from benchmarks.rows import HANDLERS, OTHERS, ROWS
from benchmarks.terms import CERTIFICATE, KEY, Load, Row, Trial


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: str(row.number))
def test_what_a_row_refers_to_exists(row: Row) -> None:
    names = [trial.name for trial in row.trials]
    assert len(set(names)) == len(names)
    assert row.us in names
    assert {row.metric, *row.shows} <= METRICS.keys()
    assert row.draws
    assert set(row.draws) <= {*row.shows}
    for goal in row.goals:
        assert goal.metric in METRICS
        assert goal.of in names
        assert not isinstance(goal.to, str) or goal.to in names


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: str(row.number))
def test_no_two_trials_begin_alike_by_accident(row: Row) -> None:
    """--only takes the beginning of a name: one that begins another must be meant to take both."""
    for trial in row.trials:
        for other in row.trials:
            if other is not trial and other.name.startswith(trial.name):
                assert other.name[len(trial.name)] == ","


def test_the_peers_as_their_users_write_them_stand_in_every_row_where_they_make_sense() -> None:
    for number in (1, 2, 3, 4, 6, 8):
        names = {trial.name.partition(" (")[0] for trial in ROWS[number].trials}
        assert names >= OTHERS.keys(), f"row {number}"


def test_cost_stands_beside_speed_in_every_row_under_load() -> None:
    for row in ROWS.values():
        if {trial.measures for trial in row.trials} <= {"load", "saturated"}:
            assert {"cpu_us_per_message", "threads_max", "own_kib"} <= set(row.shows), f"row {row.number}"


def test_the_handlers_that_are_served_exist() -> None:
    for row in ROWS.values():
        for trial in row.trials:
            for word in trial.server:
                if word.startswith(HANDLERS):
                    assert callable(getattr(handlers, word.removeprefix(HANDLERS)))


def test_options_of_the_load_generator() -> None:
    assert Load(line=True, upper=True, rate=100).options() == [
        "--connections", "64", "--size", "64", "--in-flight", "1", "--line", "--upper", "--rate", "100",
    ]  # fmt: skip
    assert "--rate" not in Load().options()
    assert Load(tls=True).options()[-1] == "--tls"


def test_what_a_record_keeps_of_a_trial() -> None:
    assert Trial("a", ("c", "x"), Load(size=9)).settings()["size"] == 9
    assert "size" not in Trial("a", ("python",), measures="lifetime").settings()


def test_command_lines() -> None:
    words = words_of(("paceline", "echo", "--workers", "1"))
    assert words[1:] == ["-m", "paceline", "serve", "echo", "--bind", "127.0.0.1:0", "--workers", "1"]
    assert words_of(("peer", "thread_pool", "block"))[1:] == ["-m", "benchmarks.peers.thread_pool", "block"]
    with pytest.raises(ValueError, match="nonsense"):
        words_of(("nonsense",))


def test_servers_that_speak_tls_are_told_where_the_run_s_certificate_is() -> None:
    for words in (trial.server for number in (9, 10) for trial in ROWS[number].trials if trial.load.tls):
        assert set(words) >= {CERTIFICATE, KEY}
    *_, certificate, key = words_of(("peer", "threads_tls", "echo", CERTIFICATE, KEY))
    assert words_of(("paceline", "echo", "--tls-cert", CERTIFICATE, "--tls-key", KEY))[-4:] == [
        "--tls-cert", certificate, "--tls-key", key,
    ]  # fmt: skip
