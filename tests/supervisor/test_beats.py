"""Signs of life, by example."""

from paceline.supervisor.vocabulary import Abort, Ticked
from supervisor.scene import Scene, of


def test_the_last_sign_of_life_counts_from_when_it_was_given_not_from_when_it_was_seen() -> None:
    scene = Scene.serving(1, heartbeat=10.0)
    scene.tell(Ticked(beats={0: 1}))
    scene.run(1)
    scene.tell(Ticked(beats={0: 2}, ages={0: 0.75}))
    assert scene.roster.silent_at == scene.now - 0.75 + 10.0
    scene.run(9.25)
    assert of(Abort, scene.tell(Ticked(beats={0: 2}))) == [Abort(0)]


def test_a_sign_of_life_is_not_older_than_the_look_before_it() -> None:
    """Everything stood still meanwhile, the worker as well, but the clock by which it writes did not."""
    scene = Scene.serving(1, heartbeat=10.0)
    scene.tell(Ticked(beats={0: 1}))
    looked_at = scene.now
    scene.run(1)
    assert scene.tell(Ticked(beats={0: 2}, ages={0: 3600.0})) == []
    assert scene.roster.silent_at == looked_at + 10.0


def test_a_sign_of_life_that_a_late_look_finds_counts_from_the_look() -> None:
    scene = Scene.serving(1, heartbeat=10.0)
    scene.tell(Ticked(beats={0: 1}))
    scene.now += 3600.0  # nothing could be done meanwhile, and no wait was interrupted by it
    assert scene.tell(Ticked(beats={0: 2}, ages={0: 3599.0})) == []
    assert scene.roster.silent_at == scene.now + 10.0
