"""Replacing one worker by example: asked for, recycled, quarantined."""

from itertools import pairwise

from paceline.settings import Settings
from paceline.supervisor.lifecycle import State
from paceline.supervisor.vocabulary import (
    Command,
    DrainAsked,
    Exited,
    ReloadAsked,
    Said,
    Spawn,
    Tell,
    Ticked,
    Usage,
)
from paceline.worker.messages import Drain, Failed, Ready, Serve, Stuck, Terminated, Turned
from supervisor.scene import Scene, answer_of, of, said

MIB = 2**20
HAND_OVER = Drain(30.0, hand_over=True)


def tick(scene: Scene, **usage: Usage) -> list[Command]:
    """A second passes; `s0=Usage(…)` is what was used in seat 0."""
    scene.run(1)
    beats = {worker.seat: int(scene.now) for worker in scene.workers.values()}
    return scene.tell(Ticked((), beats, {int(seat[1:]): used for seat, used in usage.items()})) + scene.run(0)


# Asked for


def test_a_new_worker_starts_first_then_the_old_one_hands_over() -> None:
    scene = Scene.serving(2)
    commands = scene.tell(DrainAsked(7, 1)) + scene.run(0)
    assert of(Spawn, commands) == [Spawn(1, 2, 1)]
    assert of(Tell, commands) == []
    commands = scene.ready(2)
    assert of(Tell, commands) == [Tell(2, Serve()), Tell(1, HAND_OVER)]
    assert answer_of(commands).ok
    assert scene.seat(1) == 2
    scene.leave(1)
    assert of(Spawn, scene.run(60)) == []


def test_the_old_one_goes_on_until_the_new_one_accepts() -> None:
    scene = Scene.serving(1)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    assert of(Tell, scene.tell(Said(1, Ready("message", "raw")))) == [Tell(1, Serve())]
    assert scene.state(0) is State.READY
    assert scene.seat(0) == 0
    commands = scene.tell(Said(1, Turned()))
    assert of(Tell, commands) == [Tell(0, HAND_OVER)]
    assert answer_of(commands).ok
    assert scene.seat(0) == 1


def test_one_that_never_says_that_it_accepts_is_waited_for_a_second() -> None:
    scene = Scene.serving(1)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    scene.tell(Said(1, Ready("message", "raw")))
    assert of(Tell, scene.run(0.99)) == []
    commands = scene.run(0.02)
    assert of(Tell, commands) == [Tell(0, HAND_OVER)]
    assert answer_of(commands).ok
    assert (scene.seat(0), scene.roster.next_at) == (1, scene.roster.posts.workers[0].kill_at), "and once"


def test_a_new_one_that_dies_before_it_accepts_has_replaced_nobody() -> None:
    scene = Scene.serving(1)
    scene.say(0, Terminated())
    scene.run(0)
    scene.tell(Said(1, Ready("message", "raw")))
    commands = scene.tell(Exited(1, "was killed by SIGKILL", None)) + scene.run(1)
    assert scene.state(0) is State.READY
    assert len(of(Spawn, commands)) == 1, "it is tried again"


def test_the_old_one_goes_on_when_the_new_one_cannot_start() -> None:
    scene = Scene.serving(1)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    scene.tell(Said(1, Failed("broken", "Traceback …")))
    commands = scene.tell(Exited(1, "exited with code 3", 3))
    answer = answer_of(commands)
    assert not answer.ok
    assert answer.text == "the new worker could not start: broken; the old one goes on"
    assert answer.detail == "Traceback …"
    assert scene.state(0) is State.READY
    assert of(Spawn, scene.run(60)) == []


def test_a_worker_that_does_not_exist_is_refused_by_name() -> None:
    scene = Scene.serving(2)
    answer = answer_of(scene.tell(DrainAsked(7, 2)))
    assert not answer.ok
    assert answer.text == "there is no worker 2; there are 0 to 1"


def test_twice_is_once() -> None:
    scene = Scene.serving(1)
    scene.tell(DrainAsked(7, 0))
    assert answer_of(scene.tell(DrainAsked(8, 0))).text == "worker 0 is being replaced already"


def test_an_old_one_that_dies_meanwhile_leaves_its_place_to_the_new_one() -> None:
    scene = Scene.serving(1)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    commands = scene.exit(0)
    assert answer_of(commands).text == "worker 0 has died; its replacement is starting"
    assert scene.seat(0) == 1
    assert of(Spawn, scene.run(1)) == []
    scene.ready(1)
    assert scene.state(0) is State.READY


# Recycled


def test_a_worker_that_served_enough_messages_is_replaced() -> None:
    scene = Scene.serving(2, messages=1000)
    assert of(Spawn, tick(scene, s0=Usage(999, 0), s1=Usage(0, 0))) == []
    commands = tick(scene, s0=Usage(1000, 0), s1=Usage(0, 0))
    assert said(commands, "replacing")[0]["why"] == "it has served 1000 messages (--max-messages)"
    assert of(Tell, scene.ready(2)) == [Tell(2, Serve()), Tell(0, HAND_OVER)]


def test_a_worker_that_grew_too_large_or_too_old_is_replaced() -> None:
    scene = Scene.serving(1, rss_bytes=100 * MIB)
    commands = tick(scene, s0=Usage(0, 101 * MIB))
    assert said(commands, "replacing")[0]["why"] == "it has 101 MiB in memory (--max-rss)"
    scene = Scene.serving(1, age_s=60.0)
    scene.run(60)
    assert "it has served for 1 min" in str(said(tick(scene), "replacing")[0]["why"])


def test_a_limit_below_what_a_new_worker_has_is_told_once_and_does_not_replace_all_the_time() -> None:
    scene = Scene.serving(2, rss_bytes=32 * MIB)
    large = {f"s{seat}": Usage(0, 57 * MIB) for seat in range(6)}
    tick(scene, **large)
    commands = scene.tell(Said(2, Ready("message", "raw", "echo", 57 * MIB)))
    (warning,) = said(commands, "rss-too-small")
    assert (warning["pid"], warning["used"], warning["limit"]) == (1003, "57 MiB", "32 MiB")
    scene.leave(0)
    tick(scene, **large)
    assert said(scene.tell(Said(3, Ready("message", "raw", "echo", 57 * MIB))), "rss-too-small") == [], "once"
    scene.leave(1)
    for _ in range(590):
        assert of(Spawn, tick(scene, **large)) == []
    commands = [command for _ in range(20) for command in tick(scene, **large)]
    assert len(of(Spawn, commands)) == 1, "in the end they are, one at a time"


def test_one_that_was_too_large_when_it_was_new_and_has_doubled_is_replaced_before_its_time() -> None:
    """The limit is too small, but it still bounds a leak."""
    scene = Scene.serving(1, rss_bytes=32 * MIB)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    scene.tell(Said(1, Ready("message", "raw", "echo", 57 * MIB)))
    scene.leave(0)
    for used in (57, 100, 114):
        assert of(Spawn, tick(scene, s1=Usage(0, used * MIB))) == []
    commands = tick(scene, s1=Usage(0, 115 * MIB))
    assert said(commands, "replacing")[0]["why"] == "it has 115 MiB in memory (--max-rss)"
    assert len(of(Spawn, commands)) == 1


def test_one_that_was_within_the_limit_when_it_was_new_is_held_to_it() -> None:
    scene = Scene.serving(1, rss_bytes=100 * MIB)
    scene.tell(DrainAsked(7, 0))
    scene.run(0)
    scene.tell(Said(1, Ready("message", "raw", "echo", 90 * MIB)))
    scene.tell(Said(1, Turned()))
    scene.leave(0)
    assert of(Spawn, tick(scene, s1=Usage(0, 100 * MIB))) == []
    assert len(of(Spawn, tick(scene, s1=Usage(0, 101 * MIB)))) == 1


def test_never_two_at_once() -> None:
    scene = Scene.serving(3, messages=10)
    full = {f"s{seat}": Usage(10, 0) for seat in range(3)}
    assert len(of(Spawn, tick(scene, **full))) == 1
    assert of(Spawn, scene.ready(3) + scene.run(5)) == [], "the first one is still leaving"
    assert len(of(Spawn, scene.leave(0) + scene.run(0.1))) == 1


def test_a_new_one_that_cannot_start_is_tried_again_along_the_curve() -> None:
    scene = Scene.serving(1, messages=10)
    tick(scene, s0=Usage(10, 0))
    for _ in range(3):
        scene.tell(Said(1, Failed("broken")))
        commands = scene.tell(Exited(1, "exited with code 3", 3))
        assert said(commands, "worker-failed")
        scene.run(0.5)
    assert scene.state(0) is State.READY
    assert scene.gaps() == sorted(scene.gaps())
    assert len(scene.gaps()) == 3


# Quarantined


def stuck(scene: Scene, slot: int, seconds: float = 31.0) -> list[Command]:
    return scene.say(slot, Stuck(3, seconds, 30.0, "127.0.0.1:5000")) + scene.run(0)


def test_a_worker_with_a_stuck_call_is_replaced_and_its_other_calls_finish() -> None:
    scene = Scene.serving(2)
    commands = stuck(scene, 0)
    why = "a call of 127.0.0.1:5000 has run for 31 s, over its limit of 30 s"
    assert said(commands, "quarantined") == [{"slot": 0, "pid": 1001, "why": why}]
    assert of(Spawn, commands) == [Spawn(0, 2, 1)]
    assert of(Tell, scene.ready(2)) == [Tell(2, Serve()), Tell(0, HAND_OVER)]


def test_one_at_a_time_and_none_within_the_call_time_of_the_last() -> None:
    scene = Scene.serving(3)
    stuck(scene, 0)
    scene.ready(3)
    assert stuck(scene, 1) == [], "when a database stands still, all are stuck"
    scene.run(29)
    assert stuck(scene, 1) == []
    scene.run(2)
    assert said(stuck(scene, 1, 62.0), "quarantined")


def test_it_comes_before_recycling_and_does_not_wait_for_one_that_leaves() -> None:
    scene = Scene.serving(2, messages=10)
    tick(scene, s0=Usage(10, 0))
    scene.ready(2)
    assert scene.workers[0].state is State.DRAINING
    assert len(of(Spawn, stuck(scene, 1))) == 1


def test_what_a_leaving_worker_says_of_stuck_calls_changes_nothing() -> None:
    scene = Scene.serving(1)
    stuck(scene, 0)
    scene.ready(1)
    scene.run(40)
    assert scene.tell(Said(0, Stuck(3, 70.0, 30.0))) == []


def test_what_is_said_again_before_it_is_replaced_changes_nothing() -> None:
    scene = Scene.serving(1)
    stuck(scene, 0)
    for second in range(60):  # the new one takes its time
        assert stuck(scene, 0, 32.0 + second) == []
        scene.run(0.4)
    assert of(Tell, scene.ready(1)) == [Tell(1, Serve()), Tell(0, HAND_OVER)]
    assert scene.tell(Said(0, Stuck(3, 93.0, 30.0))) == [], "it leaves"
    scene.run(7)
    assert said(stuck(scene, 0), "quarantined"), "the new one hangs, too"


def test_all_that_hang_at_once_are_replaced_in_turn_if_they_go_on_saying_so() -> None:
    scene = Scene.serving(3)
    turns: list[tuple[object, float]] = []
    for second in range(100):
        for slot in range(3):
            if scene.seat(slot) < 3:  # one of the first workers
                for fields in said(stuck(scene, slot, 31.0 + second), "quarantined"):
                    turns.append((fields["slot"], scene.now))
                    scene.ready(scene.incoming(slot))
        scene.run(1)
    assert [slot for slot, _ in turns] == [0, 1, 2]
    assert all(later - earlier >= 30 for (_, earlier), (_, later) in pairwise(turns))


def test_a_call_that_ends_before_its_turn_leaves_its_worker_where_it_is() -> None:
    scene = Scene.serving(2)
    stuck(scene, 0)
    scene.ready(2)
    assert stuck(scene, 1) == []
    assert of(Spawn, scene.run(300)) == []


def reloading(scene: Scene) -> list[Command]:
    """A reload runs, and meanwhile worker 0 says that a call of it is stuck."""
    commands = scene.tell(ReloadAsked(7, Settings())) + scene.run(0.1)
    for _ in range(5):
        commands += stuck(scene, 0)
    return commands


def test_a_reload_that_runs_replaces_it_and_its_successor_is_left_alone() -> None:
    scene = Scene.serving(2)
    reloading(scene)
    for slot in (0, 1):
        scene.ready(scene.incoming(slot))
        scene.run(0.1)
    scene.turn()
    for worker in scene.roster.posts.retired():
        scene.tell(Said(worker.seat, Stuck(3, 33.0, 30.0)))
        scene.leave(worker.seat)
    assert of(Spawn, scene.run(60)) == []


def test_after_a_reload_that_fails_its_turn_comes() -> None:
    scene = Scene.serving(2)
    commands = reloading(scene)
    assert len(said(commands, "quarantined")) == 1
    canary = scene.incoming(0)
    scene.tell(Said(canary, Failed("broken")))
    commands = scene.tell(Exited(canary, "exited with code 3", 3)) + scene.run(1)
    (spawn,) = of(Spawn, commands)
    assert isinstance(spawn, Spawn)
    assert (spawn.slot, spawn.generation) == (0, 1)


def test_a_worker_that_was_sent_term_goes_when_another_one_has_its_place() -> None:
    scene = Scene.serving(2)
    commands = scene.say(0, Terminated()) + scene.say(1, Terminated()) + scene.run(0)
    assert [fields["why"] for fields in said(commands, "replacing")] == ["somebody sent it SIGTERM"] * 2
    assert len(of(Spawn, commands)) == 1
    assert of(Tell, scene.ready(2)) == [Tell(1, HAND_OVER)] or of(Tell, scene.done)
    scene.run(0.1)
    scene.ready(3)
    assert [scene.state(slot) for slot in range(2)] == [State.READY, State.READY]
    assert {scene.seat(slot) for slot in range(2)} == {2, 3}


def test_a_reload_replaces_all_so_what_was_wanted_before_it_is_done() -> None:
    scene = Scene.serving(2, messages=10)
    tick(scene, s0=Usage(10, 0), s1=Usage(10, 0))
    scene.ready(2)  # worker 0 is recycled; worker 1 is next, when it has left
    scene.tell(DrainAsked(7, 0))
    scene.tell(ReloadAsked(0, Settings()))
    scene.run(0.1)
    commands: list[Command] = []
    for slot in (0, 1):
        commands += scene.ready(scene.incoming(slot))
        commands += scene.run(0.1)
    assert answer_of(commands).text == "all workers are new, since a reload"
    scene.turn()
    for worker in scene.roster.posts.retired():
        scene.leave(worker.seat)
    assert of(Spawn, scene.run(5)) == []
