"""The end of the server by example: who drains, for how long, and what is left behind."""

import pytest

from paceline.supervisor.vocabulary import (
    Abort,
    Announce,
    End,
    Exited,
    Kill,
    Said,
    StopAsked,
    StopListening,
    Tell,
)
from paceline.worker.messages import Delayed, Drain, Leaving, Stuck
from supervisor.scene import READY, Scene, of, said


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_drains_and_ends_when_the_last_has_left(name: str) -> None:
    scene = Scene.serving(2, drain=30.0)
    commands = scene.tell(StopAsked(name))
    assert said(commands, "stopping") == [{"signal": name, "within": "30 s"}]
    assert of(StopListening, commands) == [StopListening()]
    assert of(Tell, commands) == [Tell(0, Drain(30.0)), Tell(1, Drain(30.0))]
    scene.say(0, Leaving())
    assert of(End, scene.exit(0, "exited with code 0", 0)) == []
    scene.say(1, Leaving())
    commands = scene.exit(1, "exited with code 0", 0)
    assert of(End, commands) == [End(0)]
    assert scene.spawned == [], "nobody is replaced"
    assert scene.tell(StopAsked(name)) == [], "it is over"


def test_calls_that_were_cut_are_counted_and_are_the_exit_code() -> None:
    scene = Scene.serving(2, drain=5.0)
    scene.tell(StopAsked("SIGTERM"))
    scene.say(0, Leaving(cut=2))
    scene.exit(0, "exited with code 4", 4)
    scene.run(5.5)
    commands = scene.exit(1, "was killed by SIGABRT", None, calls=3)
    assert said(commands, "cut") == [{"cut": 5, "why": "the end of the drain time, 5 s (--drain-timeout)"}]
    assert of(End, commands) == [End(4)]


def test_stuck_calls_of_a_worker_that_was_replaced_before_are_not_cut_by_the_stop() -> None:
    scene = Scene.serving(1)
    scene.say(0, Stuck(0, 31.0, 30.0))
    scene.run(0)
    scene.ready(1)
    scene.tell(StopAsked("SIGTERM"))
    scene.tell(Said(0, Leaving(cut=1)))
    scene.tell(Exited(0, "exited with code 4", 4))
    scene.say(0, Leaving())
    assert of(End, scene.exit(0, "exited with code 0", 0)) == [End(0)]


def test_a_worker_that_ignores_the_drain_is_ended_within_a_second_after_it() -> None:
    scene = Scene.serving(1, drain=10.0)
    scene.tell(StopAsked("SIGTERM"))
    assert of(Abort, scene.run(10.4)) == []
    commands = scene.run(0.5)
    assert of(Abort, commands) == [Abort(0)]
    assert of(Kill, commands) == [Kill(0)]
    assert said(commands, "worker-killed") == [
        {"slot": 0, "pid": 1001, "why": "it still ran calls when the drain time was over"}
    ]
    commands = scene.exit(0, "was killed by SIGKILL", None)
    assert of(End, commands) == [End(0)], "no call was running"


def test_a_last_word_at_the_last_moment_leaves_half_a_second() -> None:
    scene = Scene.serving(1, drain=10.0)
    scene.tell(StopAsked("SIGTERM"))
    scene.run(10.3)
    scene.say(0, Leaving(1))
    assert of(Abort, scene.run(0.4)) == []
    assert of(Abort, scene.run(0.15)) == [Abort(0)]


def test_a_last_word_in_good_time_leaves_time_for_the_stop_hooks() -> None:
    scene = Scene.serving(1, drain=30.0)
    scene.tell(StopAsked("SIGTERM"))
    scene.say(0, Leaving(0))
    assert of(Abort, scene.run(4.9)) == []
    assert of(Abort, scene.run(0.1)) == [Abort(0)]


def test_a_second_signal_ends_within_a_second_whatever_the_workers_do() -> None:
    scene = Scene.serving(2)
    scene.tell(StopAsked("SIGTERM"))
    scene.run(3)
    commands = scene.tell(StopAsked("SIGINT"))
    assert of(Tell, commands) == [Tell(0, Drain(0.0)), Tell(1, Drain(0.0))], "at once, but in good order"
    commands = scene.run(1.0)
    assert of(Kill, commands) == [Kill(0), Kill(1)]
    assert of(End, commands) == [End(4)]
    assert len(said(commands, "left-behind")) == 2


def test_a_third_signal_kills_at_once() -> None:
    scene = Scene.serving(1)
    for expected in ([], [], [Kill(0)], []):
        assert of(Kill, scene.tell(StopAsked("SIGTERM"))) == expected
        scene.run(0.21)


def test_a_signal_that_was_delivered_twice_is_no_second_signal() -> None:
    scene = Scene.serving(1)
    assert said(scene.tell(StopAsked("SIGINT")), "stopping")
    scene.run(0.19)
    assert scene.tell(StopAsked("SIGINT")) == []
    scene.run(0.1)
    assert said(scene.tell(StopAsked("SIGINT")), "stopping-now")
    assert scene.tell(StopAsked("SIGINT")) == [], "nor the second a third"
    assert of(Kill, scene.tell(StopAsked("SIGTERM"))) == [Kill(0)], "another signal is another"


def test_a_stop_before_it_said_that_it_listens_does_not_keep_it_busy() -> None:
    scene = Scene(workers=2)
    scene.run(0)
    scene.say(0, READY)
    scene.tell(StopAsked("SIGTERM"))
    assert scene.roster.next_at is not None
    commands = scene.run(3.0)
    assert of(Announce, commands) == []


def test_quit_kills_at_once() -> None:
    scene = Scene.serving(2)
    commands = scene.tell(StopAsked("SIGQUIT", at_once=True))
    assert of(StopListening, commands) == [StopListening()]
    assert of(Kill, commands) == [Kill(0), Kill(1)]
    scene.exit(0, "was killed by SIGKILL", None, calls=1)
    commands = scene.exit(1, "was killed by SIGKILL", None)
    assert said(commands, "cut") == [{"cut": 1, "why": "a signal that asked for the end at once"}]
    assert of(End, commands) == [End(4)]


def test_a_worker_that_boots_is_killed_at_once_because_it_serves_nobody() -> None:
    scene = Scene(workers=2)
    scene.run(0)
    commands = scene.tell(StopAsked("SIGINT"))
    assert of(Kill, commands) == [Kill(0)]
    commands = scene.exit(0, "was killed by SIGKILL", None)
    assert of(End, commands) == [End(0)]
    assert said(commands, "start-failed") == []


def test_a_stop_while_nobody_lives_ends_at_once() -> None:
    scene = Scene.serving(1)
    scene.forks = False
    scene.exit(0)
    assert of(End, scene.tell(StopAsked("SIGTERM"))) == [End(0)]


def test_a_crash_during_the_drain_is_told_and_nobody_is_replaced() -> None:
    scene = Scene.serving(2)
    scene.tell(StopAsked("SIGTERM"))
    commands = scene.exit(0, "was killed by SIGSEGV", None, calls=1)
    (died,) = said(commands, "worker-died")
    assert died["next"] == "not replaced, the server stops"
    scene.run(1)
    assert scene.spawned == []
    assert scene.roster.stopping.cut == 0, "cut by its own crash, not by us"


def test_a_process_that_the_kernel_does_not_let_go_of_is_left_behind() -> None:
    scene = Scene.serving(1, drain=1.0)
    scene.tell(StopAsked("SIGTERM"))
    commands = scene.run(10)
    assert said(commands, "left-behind") == [{"slot": 0, "pid": 1001, "uptime": "7.5 s"}]
    assert of(End, commands) == [End(4)]


def test_a_drain_time_of_0_cuts_at_once() -> None:
    scene = Scene.serving(1, drain=0.0)
    assert of(Tell, scene.tell(StopAsked("SIGTERM"))) == [Tell(0, Drain(0.0))]
    assert of(Abort, scene.run(0.5)) == [Abort(0)]


def test_a_worker_that_stood_still_has_so_much_longer_to_drain_and_as_much_again_at_most() -> None:
    scene = Scene.serving(1)
    scene.tell(StopAsked("SIGTERM"))
    scene.run(20)
    scene.tell(Said(0, Delayed(8.0)))
    assert of(Abort, scene.run(18)) == [], "30 s, and the 8 s"
    scene.tell(Said(0, Delayed(60.0)))
    assert of(Abort, scene.run(22)) == []
    assert of(Abort, scene.run(1)) == [Abort(0)]


def test_who_was_told_to_end_at_once_has_no_time_to_stand_still() -> None:
    scene = Scene.serving(1)
    scene.tell(StopAsked("SIGTERM"))
    scene.run(1)
    scene.tell(StopAsked("SIGTERM"))
    scene.tell(Said(0, Delayed(60.0)))
    assert of(Kill, scene.run(1)) == [Kill(0)]
