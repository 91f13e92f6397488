"""What a reload would serve with, found out before the roster hears of it; the whole is in integration/."""

from dataclasses import replace

from paceline.settings import Settings
from paceline.supervisor.changing import Changing
from paceline.supervisor.hands import Hands
from paceline.supervisor.loop import Supervisor
from paceline.supervisor.size import Size
from paceline.supervisor.vocabulary import Answer, ReloadAsked
from supervisor.scene import Log


def changing_of(hands: Hands, ahead: Settings) -> Changing:
    """Of a server with one worker and room for four, on a machine with 64 cores, whose next settings are these."""
    hands.settings = Settings(workers=1, threads=2)
    hands.size = Size(1, 10, 64, "the machine has 64")
    hands.system = replace(hands.system, usable_cores=lambda: (64, "the machine has 64"))
    return Supervisor(hands, lambda _before: ahead).changing


def test_one_worker_per_core_means_no_more_than_there_is_room_for(hands: Hands) -> None:
    ahead = Settings(threads=2)
    (asked,) = changing_of(hands, ahead).ask_reload(7)
    assert asked == ReloadAsked(7, ahead, 4)


def test_a_number_that_has_not_changed_is_left_to_whoever_scales(hands: Hands) -> None:
    ahead = Settings(workers=1, threads=2, timeout=5.0)
    (asked,) = changing_of(hands, ahead).ask_reload()
    assert asked == ReloadAsked(0, ahead, 0)


def test_more_than_there_is_room_for_is_refused_by_name(hands: Hands, log: Log) -> None:
    changing = changing_of(hands, Settings(workers=5, threads=2))
    answers: list[Answer] = []
    hands.on_answer = answers.append
    assert list(changing.ask_reload(7)) == []
    (said,) = [fields for event, fields in log.said if event == "reload-refused"]
    assert str(said["why"]).startswith("workers = 5: there is room for 4 (--max-workers)")
    assert answers == [Answer(7, str(said["why"]), ok=False)]


def test_a_handler_that_was_given_cannot_be_had_anew(hands: Hands, log: Log) -> None:
    hands.target = print
    assert list(changing_of(hands, Settings(threads=2)).ask_reload()) == []
    (said,) = [fields for event, fields in log.said if event == "reload-refused"]
    assert str(said["why"]).startswith("the handler was given as an object")
