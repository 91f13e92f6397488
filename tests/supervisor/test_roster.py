"""The roster by example: what happened, at which time, and what is to be done about it."""

import pytest

from paceline.supervisor.lifecycle import RESPAWN_S, State
from paceline.supervisor.vocabulary import (
    Abort,
    Announce,
    Command,
    End,
    Forked,
    Kill,
    Said,
    Spawn,
    Tell,
    Ticked,
)
from paceline.worker.messages import Drain, Failed, Leaving, Nudge
from supervisor.scene import READY, Scene, of, said

# The first start


def test_the_first_worker_boots_alone_and_the_others_follow_its_ready() -> None:
    scene = Scene(workers=3)
    scene.run(5)
    assert scene.spawned == [(100.0, 0)]
    assert of(Announce, scene.say(0, READY)) == []
    scene.run(0)
    assert [slot for _, slot in scene.spawned] == [0, 1, 2]
    assert scene.state(1) is State.BOOTING
    assert of(Announce, scene.say(1, READY)) == []
    assert of(Announce, scene.say(2, READY)) == [Announce()], "whoever connects now finds all workers"


def test_the_announcement_does_not_wait_for_a_worker_that_cannot_start() -> None:
    scene = Scene(workers=2)
    scene.run(0)
    scene.say(0, READY)
    scene.run(0)
    assert of(Announce, scene.say(1, Failed("out of luck", "", 3))) == [Announce()]


def test_the_announcement_waits_a_second_for_a_worker_that_starts_slowly() -> None:
    scene = Scene(workers=2)
    scene.run(0)
    scene.say(0, READY)
    scene.run(0.9)
    assert scene.roster.announce_by is not None
    scene.run(0.2)
    assert scene.roster.announce_by is None


def test_one_process_is_made_per_event_so_that_signals_are_heard_between() -> None:
    scene = Scene(workers=3)
    scene.run(0)
    (spawn,) = of(Spawn, scene.roster.on(Said(scene.seat(0), READY), scene.now))
    assert isinstance(spawn, Spawn)
    assert len(of(Spawn, scene.roster.on(Forked(spawn.seat, 1234), scene.now))) == 1, "the next follows at once"


def test_only_the_first_ready_is_announced() -> None:
    scene = Scene.serving(2)
    scene.exit(0)
    assert of(Announce, scene.say(0, READY)) == []


@pytest.mark.parametrize(("exit_code", "ends_with"), [(3, 3), (2, 2), (1, 1), (0, 3), (300, 3), (-1, 3)])
def test_a_first_worker_that_cannot_start_is_the_end(exit_code: int, ends_with: int) -> None:
    scene = Scene(workers=4)
    scene.run(0)
    scene.say(0, Failed("no module named 'hallo'", "Traceback …", exit_code))
    commands = scene.exit(0, "exited with code 3", 3)
    assert said(commands, "start-failed") == [{"why": "no module named 'hallo'", "detail": "Traceback …"}]
    assert of(End, commands) == [End(ends_with)]
    assert [slot for _, slot in scene.spawned] == [0], "one attempt, one traceback"


def test_a_first_worker_that_dies_without_a_word_is_the_end() -> None:
    scene = Scene()
    scene.run(0)
    commands = scene.exit(0, "was killed by SIGSEGV", None, detail="Fatal Python error")
    assert said(commands, "start-failed") == [
        {"why": "the worker was killed by SIGSEGV before it was ready", "detail": "Fatal Python error"}
    ]
    assert of(End, commands) == [End(3)]


def test_a_first_worker_that_is_not_ready_in_time_shows_where_it_is_stuck_and_is_the_end() -> None:
    scene = Scene(boot=7.0)
    scene.run(0)
    assert of(Abort, scene.run(6.9)) == []
    commands = scene.run(0.1)
    assert of(Abort, commands) == [Abort(0)]
    assert of(Kill, commands) == []
    assert of(Kill, scene.run(0.5)) == [Kill(0)], "it did not end by itself"
    commands = scene.exit(0, "was killed by SIGKILL", None, detail="File hang.py, line 3")
    assert said(commands, "start-failed") == [
        {"why": "the worker was not ready after 7 s (--boot-timeout)", "detail": "File hang.py, line 3"}
    ]
    assert of(End, commands) == [End(3)]


def test_a_fork_that_fails_at_the_first_start_is_tried_again_for_ever() -> None:
    scene = Scene(workers=2, forks=False)
    commands = scene.run(10)
    assert len(said(commands, "fork-failed")) == pytest.approx(22, abs=2)
    assert of(End, commands) == []
    scene.forks = True
    scene.run(0.5)
    assert scene.state(0) is State.BOOTING
    assert {slot for _, slot in scene.spawned} == {0}


# Deaths


def test_a_worker_that_dies_after_ready_is_replaced_at_once() -> None:
    scene = Scene.serving(2)
    commands = scene.exit(1, "was killed by SIGSEGV", None, doing="1 thread was in a call", detail="Fatal …")
    assert scene.spawned == [(scene.now, 1)], "at the same moment"
    assert said(commands, "worker-died") == [
        {
            "slot": 1,
            "pid": 1002,
            "uptime": "1 s",
            "cause": "was killed by SIGSEGV",
            "doing": "1 thread was in a call",
            "detail": "Fatal …",
            "next": "replaced at once",
        }
    ]


def test_all_workers_dead_in_the_same_moment_are_all_replaced() -> None:
    scene = Scene.serving(8)
    for slot in range(8):
        scene.exit(slot)
    scene.run(0)
    assert sorted(slot for _, slot in scene.spawned) == list(range(8))


def test_a_slot_gets_no_two_processes_within_the_respawn_time() -> None:
    scene = Scene.serving(1)
    for _ in range(20):  # dies as soon as it is ready
        scene.exit(0)
        scene.run(RESPAWN_S)
        scene.say(0, READY)
    assert len(scene.spawned) == 20
    assert min(scene.gaps()) >= RESPAWN_S - 1e-9


def test_boots_that_fail_back_off_and_a_healthy_sibling_is_left_alone() -> None:
    scene = Scene.serving(2)
    scene.exit(1)
    start = scene.now
    commands: list[Command] = []
    while scene.now < start + 10:
        if scene.slots[1].seat is not None:
            scene.say(1, Failed("boom", "Traceback …"))
            commands += scene.exit(1, "exited with code 3", 3)
        commands += scene.run(0.001)
    assert scene.gaps() == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2], abs=0.01)
    assert len(scene.spawned) <= 10
    assert {slot for _, slot in scene.spawned} == {1}
    assert of(Kill, commands) == of(Abort, commands) == of(End, commands) == []
    assert said(commands, "worker-failed")[3] == {
        "slot": 1,
        "pid": 1006,
        "uptime": "1 ms",
        "why": "boom",
        "next": "tried again in 0.4 s",
        "detail": "Traceback …",
    }


def test_a_worker_that_gets_ready_has_nothing_to_make_up_for() -> None:
    scene = Scene.serving(1)
    scene.exit(0)
    for _ in range(5):
        scene.run(2)
        scene.exit(0, "exited with code 3", 3)
    assert scene.slots[0].failures == 5
    scene.run(2)
    scene.say(0, READY)
    scene.exit(0)
    scene.run(RESPAWN_S)
    scene.exit(0, "exited with code 3", 3)
    scene.run(RESPAWN_S)
    assert scene.state(0) is State.BOOTING, "the first failure costs no delay again"


def test_when_one_that_failed_gets_ready_the_others_are_tried_at_once() -> None:
    scene = Scene.serving(3)
    for slot in (0, 1):
        scene.exit(slot)
        scene.run(0)
    for _ in range(8):  # nothing boots any more
        for slot in (0, 1):
            if scene.slots[slot].seat is not None:
                scene.exit(slot, "exited with code 3", 3)
        scene.run(30)
    scene.exit(0, "exited with code 3", 3)
    scene.run(1)
    assert scene.slots[0].seat is None
    scene.say(1, READY)  # the cause is gone
    scene.run(0)
    assert scene.state(0) is State.BOOTING


def test_a_ready_that_nothing_had_gone_wrong_for_changes_no_waiting() -> None:
    scene = Scene.serving(2)
    scene.exit(0)
    for _ in range(6):
        scene.exit(0, "exited with code 3", 3)
        scene.run(2)
    scene.exit(0, "exited with code 3", 3)
    scene.exit(1)  # an ordinary death of the other one
    scene.say(1, READY)
    scene.run(0)
    assert scene.slots[0].seat is None


def test_a_boot_that_hangs_later_counts_as_failed() -> None:
    scene = Scene.serving(2, boot=5.0)
    scene.exit(0)
    assert of(Abort, scene.run(5)) == [Abort(scene.seat(0))]
    commands = scene.exit(0, "was killed by SIGABRT", None, detail="File hang.py")
    (failed,) = said(commands, "worker-failed")
    assert failed["why"] == "the worker was not ready after 5 s (--boot-timeout)"
    assert failed["detail"] == "File hang.py"
    assert scene.slots[0].failures == 1


def test_who_said_that_it_failed_and_stays_is_ended() -> None:
    scene = Scene.serving(2)
    scene.exit(0)
    scene.say(0, Failed("boom"))
    assert of(Abort, scene.run(5)) == [Abort(scene.seat(0))]
    assert of(Kill, scene.run(1)) == [Kill(scene.seat(0))]
    (failed,) = said(scene.exit(0, "was killed by SIGKILL", None), "worker-failed")
    assert failed["why"] == "boom"


@pytest.mark.parametrize("code", [0, 4])
def test_a_worker_that_was_asked_to_leave_by_somebody_else_left_and_is_replaced(code: int) -> None:
    scene = Scene.serving(2)
    scene.say(1, Leaving(cut=3))
    commands = scene.exit(1, f"exited with code {code}", code)
    assert said(commands, "worker-left") == [{"slot": 1, "pid": 1002, "uptime": "1 s"}]
    assert said(commands, "worker-died") == []
    assert scene.spawned == [(scene.now, 1)]
    assert scene.roster.stopping.cut == 0, "the server goes on; the worker itself has said what it cut"


def test_an_exit_with_code_0_that_nobody_announced_is_a_death() -> None:
    scene = Scene.serving(2)
    assert said(scene.exit(1, "exited with code 0", 0), "worker-died")


def test_degraded_is_said_once_loudly_and_slows_nothing() -> None:
    scene = Scene.serving(4)
    commands: list[Command] = []
    for n in range(80):
        commands += scene.exit(n % 4)
        commands += scene.run(0.1)
        commands += scene.say(n % 4, READY)
    assert said(commands, "degraded") == [{"deaths": 61}]
    assert len(scene.spawned) == 80
    commands = scene.run(120)
    assert said(commands, "recovered") == [{"deaths": 30}]


# Forks that fail


def test_a_failed_fork_is_tried_again_and_at_full_strength_within_a_second() -> None:
    scene = Scene.serving(4)
    scene.forks = False
    commands: list[Command] = []
    for slot in range(4):
        commands += scene.exit(slot)
    commands += scene.run(60)
    assert said(commands, "fork-failed")[0] == {"slot": 0, "error": "no room", "seconds": 0.1}
    assert of(End, commands) == []
    attempts = len(scene.spawned)
    assert attempts < 4 * (60 / 0.5 + 4)
    scene.forks = True
    scene.run(1)
    assert [scene.state(slot) for slot in range(4)] == [State.BOOTING] * 4


# What workers say


def test_only_the_last_word_and_the_boot_are_heard() -> None:
    scene = Scene.serving(2)
    for message in (Drain(0.0), Nudge(), READY, Failed("now?")):
        assert scene.say(0, message) == []
        assert scene.state(0) is State.READY


def test_a_word_from_an_empty_seat_is_nothing() -> None:
    scene = Scene.serving(2)
    assert scene.tell(Said(5, READY)) == []


# Every second


def test_connections_that_nobody_takes_for_two_ticks_are_nudged() -> None:
    scene = Scene.serving(2)
    assert scene.tell(Ticked(waiting=(0,))) == []
    assert scene.tell(Ticked(waiting=(1,))) == [], "another listener"
    assert scene.tell(Ticked(waiting=(0, 1))) == [Tell(scene.seat(0), Nudge()), Tell(scene.seat(1), Nudge())]
    assert scene.tell(Ticked(waiting=())) == []
    assert scene.tell(Ticked(waiting=(0,))) == []


def test_only_the_ready_are_nudged() -> None:
    scene = Scene.serving(2)
    scene.exit(0)
    scene.tell(Ticked(waiting=(0,)))
    assert scene.tell(Ticked(waiting=(0,))) == [Tell(scene.seat(1), Nudge())]


def test_a_worker_whose_watcher_stands_still_is_ended_and_replaced() -> None:
    scene = Scene.serving(2, heartbeat=10.0)
    commands: list[Command] = []
    for second in range(14):
        commands += scene.tell(Ticked(beats={scene.seat(0): 7, scene.seat(1): second}))
        commands += scene.run(1)
    assert of(Abort, commands) == [Abort(0)]
    assert of(Kill, commands) == [Kill(0)]
    assert said(commands, "worker-killed") == [
        {"slot": 0, "pid": 1001, "why": "it showed no sign of life for 10 s (--heartbeat)"}
    ]
    commands = scene.exit(0, "was killed by SIGKILL", None)
    assert said(commands, "worker-died")
    assert scene.spawned[-1] == (scene.now, 0)
