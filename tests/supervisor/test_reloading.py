"""A reload by example: what is asked, what happens to the new workers, and what is to be done about it."""

import pytest

from paceline.settings import Settings
from paceline.supervisor.lifecycle import State
from paceline.supervisor.reloading import MOST_REFUSALS
from paceline.supervisor.vocabulary import (
    Adopt,
    Answer,
    Command,
    Exited,
    Kill,
    ReloadAsked,
    Said,
    ScaleAsked,
    Spawn,
    StopAsked,
    Tell,
    Ticked,
)
from paceline.worker.messages import Drain, Failed, Leaving, Serve, Turned
from supervisor.scene import Scene, of, said

SETTINGS = Settings(drain_timeout=7.0)
ASKER = 5


def reload(scene: Scene, asker: int = ASKER, workers: int = 0) -> list[Command]:
    """Ask, and let the canary be made."""
    return scene.tell(ReloadAsked(asker, SETTINGS, workers)) + scene.run(0.06)


def answers(commands: list[Command], *, last: bool = True) -> list[Answer]:
    return [command for command in commands if isinstance(command, Answer) and command.is_last is last]


def risen(scene: Scene, workers: int = 2) -> list[Command]:
    """All but the last of the new workers are in standby; what came of it."""
    start = len(scene.done)
    reload(scene)
    for slot in range(workers - 1):
        scene.ready(scene.incoming(slot))
        scene.run(0.1)
    return scene.done[start:]


# It succeeds


def test_the_new_workers_rise_one_by_one_beside_the_old_ones_and_wait() -> None:
    scene = Scene.serving(2)
    commands = risen(scene)
    assert of(Adopt, commands) == [Adopt(2, SETTINGS, 1)]
    assert of(Spawn, commands) == [
        Spawn(0, 2, 2, probe=True),
        Spawn(1, 3, 2, probe=False),
    ], "only the canary has to answer the probe"
    assert scene.workers[2].state is State.STANDBY
    assert of(Tell, commands) == [], "the old ones do not notice"
    assert said(commands, "reloading") == [{"generation": 2}]


def test_the_new_ones_have_as_long_for_their_start_as_their_own_settings_say() -> None:
    scene = Scene.serving(1, boot=5.0)
    scene.tell(ReloadAsked(ASKER, Settings(boot_timeout=50.0)))
    scene.run(49.0)
    assert scene.workers[scene.incoming(0)].state is State.BOOTING
    (killed,) = said(scene.run(2.0), "worker-killed")
    assert killed["why"] == "it was not ready after 50 s (--boot-timeout)"
    assert scene.roster.posts.limits.boot_s == 5.0, "those that serve keep theirs"


def test_when_all_are_there_they_serve_and_the_old_ones_hand_over() -> None:
    scene = Scene.serving(2)
    risen(scene)
    commands = scene.ready(scene.incoming(1))
    assert of(Tell, commands) == [
        Tell(2, Serve()), Tell(3, Serve()), Tell(0, Drain(7.0, hand_over=True)), Tell(1, Drain(7.0, hand_over=True)),
    ]  # fmt: skip
    assert answers(commands) == [], "it is done when all have turned"
    for turned in (Said(2, Turned()), Said(3, Turned()), Said(0, Turned(leaves=True))):
        assert answers(scene.tell(turned)) == []
    assert answers(scene.tell(Said(1, Turned()))) == [], "that was its answer to being told to serve, a moment before"
    commands = scene.tell(Said(1, Turned(leaves=True)))
    assert [answer.text for answer in answers(commands)] == ["generation 2 serves, after 0.2 s"]
    assert said(commands, "reloaded")[0]["generation"] == 2
    assert [scene.state(slot) for slot in range(2)] == [State.READY, State.READY]
    for seat in (0, 1):
        commands = scene.leave(seat)
        assert said(commands, "worker-left")
        assert of(Spawn, commands) == []
    assert of(Spawn, scene.run(60)) == []
    assert scene.roster.posts.generation == 2


def test_whoever_does_not_turn_is_waited_for_a_second() -> None:
    scene = Scene.serving(1)
    reload(scene)
    assert answers(scene.ready(scene.incoming(0)) + scene.run(0.99)) == []
    assert len(answers(scene.run(0.02))) == 1


def test_whoever_leaves_or_dies_has_turned() -> None:
    scene = Scene.serving(2)
    risen(scene)
    scene.ready(scene.incoming(1))
    scene.tell(Said(2, Turned()))
    scene.exit(1)
    scene.tell(Said(0, Leaving()))
    assert len(answers(scene.tell(Exited(1, "was killed by SIGKILL", None)))) == 1


def test_who_asked_hears_how_it_goes() -> None:
    scene = Scene.serving(2)
    commands = risen(scene)
    assert [answer.text for answer in answers(commands, last=False)] == [
        "generation 2 starts", "worker 0 of generation 2 is ready",
    ]  # fmt: skip
    assert answers(commands) == []


def test_the_settings_that_decide_about_workers_are_the_new_ones_afterwards() -> None:
    scene = Scene.serving(1, drain=30.0)
    reload(scene)
    assert scene.roster.posts.limits.drain_s == 30.0
    scene.ready(scene.incoming(0))
    assert scene.roster.posts.limits.drain_s == 7.0


def test_the_number_of_workers_follows_the_settings_when_it_is_over() -> None:
    scene = Scene.serving(1)
    reload(scene, workers=2)
    assert of(Spawn, scene.run(1)) == []
    commands = scene.ready(scene.incoming(0)) + scene.turn() + scene.run(0)
    assert said(commands, "scaled") == [{"before": 1, "after": 2}]
    assert of(Spawn, commands) == [Spawn(1, 2, 2)]


def test_a_worker_that_had_not_started_is_given_up_for_the_new_one() -> None:
    scene = Scene.serving(2)
    scene.exit(1)
    scene.run(0.1)
    assert scene.state(1) is State.BOOTING
    booting = scene.seat(1)
    risen(scene)
    commands = scene.ready(scene.incoming(1))
    assert of(Kill, commands) == [Kill(booting)]
    assert scene.state(1) is State.READY
    assert said(scene.tell(Exited(booting, "was killed by SIGKILL", None)), "worker-failed") == []


def test_a_slot_whose_worker_could_not_start_gets_one_of_the_new_generation() -> None:
    scene = Scene.serving(2)
    scene.exit(1)
    for _ in range(4):
        scene.run(1)
        scene.say(1, Failed("broken"))
        scene.exit(1, "exited with code 3", 3)
    reload(scene)
    scene.ready(scene.incoming(0))
    scene.run(0.1)
    scene.ready(scene.incoming(1))
    assert scene.state(1) is State.READY
    assert scene.workers[scene.seat(1)].generation == 2
    assert scene.slots[1].failures == 0


# It fails


@pytest.mark.parametrize("slot", [0, 1])
def test_one_that_cannot_start_is_the_end_of_the_reload_and_of_nothing_else(slot: int) -> None:
    scene = Scene.serving(2)
    reload(scene)
    if slot:
        scene.ready(scene.incoming(0))
        scene.run(0.1)
    seat = scene.incoming(slot)
    scene.tell(Said(seat, Failed("app.py:answer raised SyntaxError", "Traceback …")))
    commands = scene.tell(Exited(seat, "exited with code 3", 3))
    (failed,) = said(commands, "reload-failed")
    assert failed == {
        "generation": 2, "still": 1, "why": "app.py:answer raised SyntaxError", "detail": "Traceback …",
    }  # fmt: skip
    (answer,) = answers(commands)
    assert not answer.ok
    assert answer.detail == "Traceback …"
    assert answer.text == "app.py:answer raised SyntaxError; generation 1 goes on, nothing has changed"
    assert of(Tell, commands) == ([Tell(2, Drain(30.0, hand_over=True))] if slot else []), "those in standby go"
    assert [scene.state(other) for other in range(2)] == [State.READY, State.READY]
    assert of(Spawn, scene.run(60)) == [], "it is not tried again"


def test_one_that_hangs_is_ended_by_the_boot_time() -> None:
    scene = Scene.serving(1)
    scene.tell(ReloadAsked(ASKER, Settings(boot_timeout=5.0)))
    scene.run(0.06)
    seat = scene.incoming(0)
    scene.run(5.5)
    commands = scene.tell(Exited(seat, "was killed by SIGABRT", None, detail="in hangs"))
    assert said(commands, "reload-failed")[0]["why"] == "the worker was not ready after 5 s (--boot-timeout)"
    assert scene.state(0) is State.READY


def test_one_that_dies_in_standby_ends_the_reload() -> None:
    scene = Scene.serving(2)
    risen(scene)
    booting = scene.incoming(1)
    commands = scene.tell(Exited(2, "was killed by SIGSEGV", None, detail="in crashes"))
    assert said(commands, "reload-failed")[0]["why"] == "a new worker was killed by SIGSEGV in standby"
    assert said(commands, "worker-died") == [], "nobody was served by it"
    assert of(Kill, commands) == [Kill(booting)]


def test_one_in_standby_that_shows_no_sign_of_life_ends_the_reload() -> None:
    scene = Scene.serving(2, heartbeat=10.0, boot=100.0)
    risen(scene)
    for _ in range(12):
        scene.run(1)
        scene.tell(Ticked((), {0: int(scene.now), 1: int(scene.now), 2: 1}))
    scene.tell(Exited(2, "was killed by SIGABRT", None))
    assert scene.roster.reloading.running is None
    assert scene.state(0) is State.READY


def test_processes_that_cannot_be_made_are_tried_again_then_it_is_given_up() -> None:
    scene = Scene.serving(1)
    scene.forks = False
    commands = reload(scene) + scene.run(60)
    assert len(said(commands, "fork-failed")) == MOST_REFUSALS
    assert "no process can be made (no room)" in str(said(commands, "reload-failed")[0]["why"])
    assert min(scene.gaps()) > 0.099


def test_the_generation_that_serves_is_replaced_from_its_own_settings_after_a_failure() -> None:
    scene = Scene.serving(1)
    for number in (2, 3, 4):
        commands = reload(scene)
        assert of(Adopt, commands) == [Adopt(number, SETTINGS, 1)]
        seat = scene.incoming(0)
        scene.tell(Said(seat, Failed("broken")))
        scene.tell(Exited(seat, "exited with code 3", 3))
    scene.exit(0)
    scene.run(1)
    assert scene.workers[scene.seat(0)].generation == 1


# Several


def test_what_is_asked_during_a_reload_is_one_reload_afterwards() -> None:
    scene = Scene.serving(1)
    reload(scene, 1)
    for asker in (2, 0, 3):
        commands = scene.tell(ReloadAsked(asker, SETTINGS))
        assert [answer.text for answer in answers(commands, last=False)] == (
            ["the reload begins later: generation 2 is just starting"] if asker else []
        )
    commands = scene.ready(scene.incoming(0)) + scene.turn() + scene.run(0.1)
    assert [answer.asker for answer in answers(commands)] == [1]
    assert of(Spawn, commands) == [], "the generation before has its time to leave"
    commands = scene.leave(0) + scene.run(0.1)
    assert len(of(Spawn, commands)) == 1
    commands = scene.ready(scene.incoming(0)) + scene.turn()
    assert [answer.asker for answer in answers(commands)] == [2, 3]
    assert scene.roster.posts.generation == 3


def test_a_reload_waits_at_most_the_drain_time_for_the_generation_before() -> None:
    scene = Scene.serving(1)
    reload(scene)
    scene.ready(scene.incoming(0))
    reload(scene)
    assert len({worker.generation for worker in scene.workers.values()}) == 2
    scene.run(7.0 + 1.0)
    assert scene.workers[0].state is State.KILLED, "it did not go"
    commands = scene.tell(Exited(0, "was killed by SIGKILL", None)) + scene.run(0.1)
    assert said(commands, "reloading") == [{"generation": 3}]


def test_a_thousand_at_once_are_two() -> None:
    scene = Scene.serving(1)
    for _ in range(1000):
        scene.tell(ReloadAsked(0, SETTINGS))
    for _ in range(10):
        scene.run(0.1)
        scene.turn()
        for worker in list(scene.workers.values()):
            if worker.state is State.BOOTING:
                scene.ready(worker.seat)
            elif worker.state is State.DRAINING:
                scene.leave(worker.seat)
    assert scene.roster.posts.generation == 3
    assert list(scene.workers) == [scene.seat(0)]


def test_before_the_first_worker_is_ready_it_waits() -> None:
    scene = Scene(workers=1)
    scene.run(0)
    commands = reload(scene)
    assert [answer.text for answer in answers(commands, last=False)] == [
        "the reload begins later: the first worker is still starting"
    ]
    assert len(scene.spawned) == 1
    scene.ready(0)
    scene.run(0.1)
    assert len(scene.spawned) == 2


def test_scaling_waits_until_a_reload_is_over() -> None:
    scene = Scene.serving(1)
    reload(scene)
    assert said(scene.tell(ScaleAsked(0, 2)), "scaled") == []
    commands = scene.ready(scene.incoming(0)) + scene.turn() + scene.run(0)
    assert said(commands, "scaled") == [{"before": 1, "after": 2}]


def test_a_stop_ends_a_reload() -> None:
    scene = Scene.serving(2)
    risen(scene)
    scene.tell(ReloadAsked(9, SETTINGS))
    commands = scene.tell(StopAsked("SIGTERM"))
    assert [(answer.asker, answer.ok, answer.text) for answer in answers(commands)] == [
        (ASKER, False, "the server stops"), (9, False, "the server stops"),
    ]  # fmt: skip
    assert of(Kill, commands) == [Kill(3)]
    assert of(Tell, commands) == [Tell(0, Drain(30.0)), Tell(1, Drain(30.0)), Tell(2, Drain(30.0))]
    (answer,) = answers(scene.tell(ReloadAsked(ASKER, SETTINGS)))
    assert not answer.ok
