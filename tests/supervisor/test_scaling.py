"""More workers and fewer, by example."""

from paceline.settings import Settings
from paceline.supervisor.lifecycle import State
from paceline.supervisor.vocabulary import Answer, DrainAsked, Exited, Kill, ReloadAsked, Said, ScaleAsked, Spawn, Tell
from paceline.worker.messages import Drain, Ready, Serve
from supervisor.scene import Scene, answer_of, of, said

HAND_OVER = Drain(30.0, hand_over=True)


def test_more_workers_start_and_fewer_hand_over() -> None:
    scene = Scene.serving(2)
    commands = scene.tell(ScaleAsked(4, 3)) + scene.run(0)
    assert said(commands, "scaled") == [{"before": 2, "after": 3}]
    assert answer_of(commands).text == "3 workers, before 2"
    assert of(Spawn, commands) == [Spawn(2, 2, 1)]
    scene.ready(2)
    commands = scene.tell(ScaleAsked(4, 1))
    assert of(Tell, commands) == [Tell(1, HAND_OVER), Tell(2, HAND_OVER)]
    scene.leave(2)
    scene.leave(1)
    assert of(Spawn, scene.run(60)) == []


def test_one_that_boots_is_ended_when_there_are_to_be_fewer() -> None:
    scene = Scene.serving(1)
    scene.tell(ScaleAsked(0, by=1))
    scene.run(0)
    assert of(Kill, scene.tell(ScaleAsked(0, by=-1))) == [Kill(1)]


def test_nobody_serves_before_it_is_told_so_who_boots_can_be_ended_without_a_loss() -> None:
    scene = Scene.serving(1)
    scene.tell(ScaleAsked(0, by=1))
    scene.run(0)
    commands = scene.tell(ScaleAsked(0, by=-1))
    assert of(Kill, commands) == [Kill(1)], "though it may just have said that it is ready"
    assert of(Tell, scene.tell(Said(1, Ready("message", "raw")))) == [], "and it is not let in any more"
    scene.tell(Exited(1, "was killed by SIGKILL", None))
    scene.tell(ScaleAsked(0, by=1))
    scene.run(0.1)
    (seat,) = [worker.seat for worker in scene.roster.posts.in_state(State.BOOTING)]
    assert of(Tell, scene.ready(seat)) == [Tell(seat, Serve())]


def test_who_has_to_wait_is_told_so_once() -> None:
    scene = Scene.serving(2)
    scene.tell(ReloadAsked(0, Settings()))
    answer = answer_of(scene.tell(ScaleAsked(4, 3)))
    assert (answer.ok, answer.is_last) == (True, False)
    assert (
        answer.text == "the number of workers changes later: a start, a reload, or workers that still leave come first"
    )
    commands = scene.run(0.1)
    for slot in (0, 1):
        commands += scene.ready(scene.incoming(slot)) + scene.run(0.1)
    commands += scene.turn()
    assert answer_of(commands).text == "3 workers, before 2"


def test_a_number_that_cannot_be_is_refused_with_the_reason() -> None:
    scene = Scene.serving(1)
    for event in (ScaleAsked(4, 5), ScaleAsked(4, 0), ScaleAsked(4, by=-1)):
        commands = scene.tell(event)
        answer = answer_of(commands)
        assert not answer.ok
        assert "at least 1, at most 4 (--max-workers, which only a restart can raise)" in answer.text
        assert said(commands, "scale-refused")[0]["workers"] == 1


def test_the_same_slot_again_does_not_get_two_processes_in_a_moment() -> None:
    scene = Scene.serving(2)
    for _ in range(5):
        scene.tell(ScaleAsked(0, by=-1))
        scene.tell(ScaleAsked(0, by=1))
        scene.run(0)
    assert len(scene.spawned) <= 1


def test_more_are_not_promised_than_there_are_seats_for() -> None:
    """Those who leave sit in theirs for as long as they drain."""
    scene = Scene.serving(4)
    seats = len(scene.roster.posts.seats)
    for _ in range(seats):
        scene.tell(ScaleAsked(0, 1))
        scene.tell(ScaleAsked(9, 4))
        for _ in range(3):
            scene.run(0.06)
            for worker in scene.roster.posts.in_state(State.BOOTING):
                scene.ready(worker.seat)
    posts = scene.roster.posts
    assert len(posts.slots) == 1
    assert posts.spare_seats < 3
    left = [worker.seat for worker in posts.retired()][:3]
    for seat in left:
        scene.leave(seat)
    assert len(posts.slots) == 4, "as soon as somebody has left"


def test_a_replacement_of_a_slot_that_goes_is_forgotten() -> None:
    scene = Scene.serving(2)
    scene.tell(DrainAsked(7, 1))
    scene.run(0)
    commands = scene.tell(ScaleAsked(0, 1))
    assert answer_of(commands).text == "there are fewer workers now"
    assert of(Kill, commands) == [Kill(2)]
    assert of(Tell, commands) == [Tell(1, HAND_OVER)]


def test_of_what_waits_only_the_end_counts() -> None:
    scene = Scene.serving(2)
    scene.tell(ReloadAsked(0, Settings()))
    scene.run(0.1)
    for event in (ScaleAsked(1, by=-1), ScaleAsked(2, by=-1), ScaleAsked(3, by=1)):
        scene.tell(event)
    for slot in (0, 1):
        scene.ready(scene.incoming(slot))
        scene.run(0.1)
    commands = scene.turn()
    texts = {command.asker: command.text for command in commands if isinstance(command, Answer)}
    assert texts[1] == "1 worker, before 2"
    assert "0 workers cannot be" in texts[2]
    assert texts[3] == "2 workers, before 1"
    assert said(commands, "scaled") == []
    assert of(Tell, commands) == []
