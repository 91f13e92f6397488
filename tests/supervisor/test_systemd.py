"""What the service manager is told, by table: situations one after the other, and the datagrams that follow."""

from dataclasses import replace

import pytest

from paceline.supervisor.systemd import EXTENSION_S, STATUS_CHARACTERS, Phase, Situation, Systemd, line_of, serving_text

PID = 77
STARTING = Situation(Phase.STARTING)
SERVING = Situation(Phase.SERVING)
RELOADING = Situation(Phase.RELOADING, reloads=1)
RELOADED = Situation(Phase.SERVING, reloads=1)
STOPPING = Situation(Phase.STOPPING)
EXTEND = f"EXTEND_TIMEOUT_USEC={int(EXTENSION_S * 1e6)}"


def told(*situations: tuple[float, Situation], watchdog_s: float | None = None) -> list[list[str]]:
    """What is told in each of them; every datagram is taken."""
    systemd = Systemd(PID, 100.0, watchdog_s)
    found = []
    for now, situation in situations:
        found.append(systemd.due(situation, now))
        systemd.on_told(situation, now)
    return found


@pytest.mark.parametrize(
    ("situations", "expected"),
    [
        pytest.param([STARTING, SERVING, SERVING], [[], [f"READY=1\nMAINPID={PID}"], []], id="start"),
        pytest.param([STARTING, STOPPING], [[], ["STOPPING=1"]], id="stopped as it starts"),
        pytest.param(
            [SERVING, RELOADING, RELOADED],
            [[f"READY=1\nMAINPID={PID}"], ["RELOADING=1\nMONOTONIC_USEC=101000000"], [f"READY=1\nMAINPID={PID}"]],
            id="reload",
        ),
        pytest.param(
            [SERVING, RELOADED, RELOADED],
            [[f"READY=1\nMAINPID={PID}"], ["RELOADING=1\nMONOTONIC_USEC=101000000", "READY=1"], []],
            id="a reload that is over at once",
        ),
        pytest.param(
            [SERVING, RELOADING, replace(RELOADING, reloads=2), replace(SERVING, reloads=2)],
            [
                [f"READY=1\nMAINPID={PID}"],
                ["RELOADING=1\nMONOTONIC_USEC=101000000"],
                ["RELOADING=1\nMONOTONIC_USEC=102000000"],
                [f"READY=1\nMAINPID={PID}"],
            ],
            id="a second reload is asked for during the first",
        ),
        pytest.param([STARTING, RELOADED], [[], [f"READY=1\nMAINPID={PID}"]], id="a reload during the start is none"),
        pytest.param(
            [SERVING, RELOADING, replace(STOPPING, reloads=1), replace(STOPPING, reloads=1)],
            [[f"READY=1\nMAINPID={PID}"], ["RELOADING=1\nMONOTONIC_USEC=101000000"], ["STOPPING=1"], []],
            id="stopped during a reload",
        ),
        pytest.param(
            [replace(SERVING, status="one"), replace(SERVING, status="one"), replace(SERVING, status="two")],
            [[f"READY=1\nMAINPID={PID}\nSTATUS=one"], [], ["STATUS=two"]],
            id="status",
        ),
        pytest.param(
            [SERVING, replace(RELOADED, status="reload failed: boom\nREADY=1")],
            [
                [f"READY=1\nMAINPID={PID}"],
                [
                    "RELOADING=1\nMONOTONIC_USEC=101000000\nSTATUS=reload failed: boom READY=1",
                    "READY=1\nSTATUS=reload failed: boom READY=1",
                ],
            ],
            id="a status is one line",
        ),
    ],
)
def test_what_is_told(situations: list[Situation], expected: list[list[str]]) -> None:
    assert told(*((100.0 + n, situation) for n, situation in enumerate(situations))) == expected


def test_what_was_not_taken_is_due_again() -> None:
    systemd = Systemd(PID, 100.0)
    assert systemd.due(SERVING, 100.0) == systemd.due(SERVING, 101.0) == [f"READY=1\nMAINPID={PID}"]
    systemd.on_told(SERVING, 101.0)
    assert systemd.due(SERVING, 102.0) == []


# WATCHDOG


def alive(beat_at: float | None) -> Situation:
    return replace(SERVING, beat_at=beat_at)


def watched(*situations: tuple[float, Situation]) -> list[float]:
    """When a sign of life was given."""
    answers = told(*situations, watchdog_s=4.0)
    return [now for (now, _), lines in zip(situations, answers, strict=True) if "WATCHDOG=1" in lines]


def test_a_sign_of_life_twice_as_often_as_is_asked_for() -> None:
    assert watched(*((now, alive(now)) for now in (100.0, 101.0, 102.0, 103.9, 104.0, 106.5, 107.0, 108.5))) == [
        100.0, 102.0, 104.0, 106.5, 108.5,
    ]  # fmt: skip


def test_no_sign_of_life_without_a_worker_that_lives() -> None:
    assert watched((100.0, alive(None)), (103.0, alive(92.9)), (104.0, alive(94.1)), (107.0, alive(94.1))) == [104.0]


def test_none_before_it_serves_and_some_while_it_drains() -> None:
    assert watched(
        (100.0, replace(STARTING, beat_at=100.0)),
        (101.0, alive(101.0)),
        (104.0, replace(RELOADING, beat_at=104.0)),
        (107.0, replace(STOPPING, beat_at=107.0)),
    ) == [101.0, 104.0, 107.0]


def test_nobody_who_does_not_ask_gets_one() -> None:
    assert told((100.0, alive(100.0)), (200.0, alive(200.0))) == [[f"READY=1\nMAINPID={PID}"], []]


def test_when_to_look_again() -> None:
    systemd = Systemd(PID, 100.0, 4.0)
    assert systemd.next_at() is None
    systemd.due(alive(100.0), 100.0)
    systemd.on_told(alive(100.0), 100.0)
    assert systemd.next_at() == 102.0
    assert systemd.due(alive(80.0), 102.0) == []
    systemd.on_told(alive(80.0), 102.0)
    assert systemd.next_at() is None, "the next tick will do; not at once, again and again"
    assert systemd.due(alive(103.0), 103.0) == ["WATCHDOG=1"]
    systemd.on_told(alive(103.0), 103.0)
    assert systemd.next_at() == 105.0


# EXTEND_TIMEOUT_USEC


@pytest.mark.parametrize("phase", [STARTING, STOPPING])
def test_what_takes_longer_than_usual_asks_for_time(phase: Situation) -> None:
    begun = [(100.0, phase)]
    later = [(now, phase) for now in (104.9, 105.0, 106.0, 110.0, 114.0, 115.0)]
    assert told(*begun, *later)[1:] == [[], [EXTEND], [], [EXTEND], [], [EXTEND]]


def test_serving_takes_as_long_as_it_likes() -> None:
    assert told((100.0, SERVING), (200.0, SERVING), (300.0, RELOADING), (304.0, RELOADING), (305.0, RELOADING))[1:] == [
        [],
        ["RELOADING=1\nMONOTONIC_USEC=300000000"],
        [],
        [EXTEND],
    ]


# Words


def test_a_line_is_one_line() -> None:
    assert line_of("a\nb\0c\t d\x1b[1m") == "a b c d [1m"
    assert len(line_of("x" * 5000)) == STATUS_CHARACTERS
    assert line_of("") == ""


def test_the_line_of_a_server_that_serves() -> None:
    assert serving_text("127.0.0.1:80", 1, 1) == "serving on 127.0.0.1:80, 1 worker, generation 1"
    assert serving_text("127.0.0.1:80", 2, 3) == "serving on 127.0.0.1:80, 2 workers, generation 3"
