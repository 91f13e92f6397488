"""worker/overdue.py: whose call is late, once; and what does not count."""

import pytest

from paceline.errors import TargetError
from paceline.handlers import AUTO, Handler, Marks, echo, examine
from paceline.settings import Settings
from paceline.worker.overdue import DEFAULT_S, Found, Limit, Overdue, limit_of

A, B = (1, 0, 0), (2, 0, 0)


def handler(timeout: object = AUTO) -> Handler:
    return Handler(echo, "message", False, Marks(timeout=timeout), {}, "app:answer")


# Who says what


@pytest.mark.parametrize(
    ("setting", "own", "seconds"),
    [
        ("auto", AUTO, DEFAULT_S),
        ("auto", 5, 5.0),
        ("auto", "500ms", 0.5),
        ("auto", None, None),
        ("auto", "off", None),
        (7.0, 5, 7.0),
        (7.0, None, 7.0),
        (None, 5, None),
    ],
)
def test_an_explicit_setting_counts_then_the_handlers_then_the_default(
    setting: object, own: object, seconds: float | None
) -> None:
    assert limit_of(Settings(timeout=setting), handler(own)).seconds == seconds  # type: ignore[arg-type]


def test_who_said_it_is_told() -> None:
    assert limit_of(Settings(), handler()).said_by == "by default (--timeout)"
    assert limit_of(Settings(), handler(5)) == Limit(5.0, "by the handler (--timeout overrides it)")
    assert limit_of(Settings(timeout=5.0), handler()).said_by == "by --timeout"


@pytest.mark.parametrize(
    ("own", "text"),
    [
        (0, "^app:answer says timeout=0: must be a time from 10ms to 7d, .*, or auto, or off; the nearest .* is off$"),
        ("5x", "app:answer says timeout='5x': must be a time"),
        (True, "app:answer says timeout=True: must be a time"),
        ([], r"app:answer says timeout=\[\]: must be a time"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["auto", 5.0])
def test_a_wrong_one_of_the_handler_is_refused_by_name(own: object, text: str, setting: object) -> None:
    with pytest.raises(TargetError, match=text):
        limit_of(Settings(timeout=setting), handler(own))  # type: ignore[arg-type]


def test_a_class_says_it_in_its_body_and_an_instance_keeps_its_own() -> None:
    class Says:
        timeout = 5

        def __call__(self, message: bytes) -> bytes:
            return message

    class Keeps:
        def __init__(self) -> None:
            self.timeout = 5  # of its database, perhaps

        def __call__(self, message: bytes) -> bytes:
            return message

    assert limit_of(Settings(), examine(Says, "Says")).seconds == 5
    assert limit_of(Settings(), examine(Keeps, "Keeps")).seconds == DEFAULT_S


# Who is late


class Looks:
    """A watcher that looks at its pace."""

    def __init__(self, limit_s: float | None = 1.0) -> None:
        self.overdue: Overdue[str] = Overdue(limit_s)
        self.now = 100.0

    def look(self, **threads: tuple[int, int, int] | None) -> Found[str]:
        return self.look_after(self.overdue.pace_s, **threads)

    def look_after(self, seconds: float, **threads: tuple[int, int, int] | None) -> Found[str]:
        self.now += seconds
        return self.overdue.look(self.now, threads.items())

    def until_late(self, **threads: tuple[int, int, int] | None) -> Found[str]:
        for _ in range(100):
            found = self.look(**threads)
            if found.late:
                return found
        raise AssertionError("nobody was late")


def test_a_call_is_late_once_within_two_looks_after_its_limit() -> None:
    looks = Looks()
    begun = looks.now
    found = looks.until_late(t=A)
    assert looks.now - begun <= 1.0 + 3 * looks.overdue.pace_s
    ((thread, seconds),) = found.late
    assert thread == "t"
    assert 1.0 < seconds <= 1.0 + looks.overdue.pace_s
    assert not looks.look(t=A).late
    assert not looks.look(t=A).ended


def test_a_call_that_was_late_and_ends_is_told_with_its_time() -> None:
    looks = Looks()
    looks.until_late(t=A)
    assert looks.overdue.is_late("t", A)
    assert not looks.overdue.is_late("t", B)
    ((thread, seconds),) = looks.look(t=None).ended
    assert thread == "t"
    assert seconds > 1.0
    assert not looks.look(t=None).ended


def test_the_next_call_of_the_thread_or_the_threads_end_is_the_end_of_the_late_one() -> None:
    looks = Looks()
    looks.until_late(t=A)
    assert len(looks.look(t=B).ended) == 1
    looks.until_late(t=B)
    assert len(looks.look().ended) == 1


def test_a_call_that_waits_for_its_peer_begins_anew_when_it_is_back() -> None:
    looks = Looks()
    for _ in range(20):
        for marks in (A, A, A, None):
            assert not looks.look(t=marks).late


def test_a_thread_whose_marks_move_is_never_late() -> None:
    looks = Looks()
    for waits in range(50):
        assert not looks.look(t=(1, 0, waits)).late


def test_each_thread_has_its_own_time() -> None:
    looks = Looks()
    looks.look(old=A)
    looks.look(old=A)
    found = looks.until_late(old=A, new=A)
    assert [thread for thread, _ in found.late] == ["old"]
    assert [thread for thread, _ in looks.until_late(old=A, new=A).late] == ["new"]


def test_time_in_which_the_worker_did_not_run_does_not_count() -> None:
    looks = Looks(30.0)
    looks.look(t=A)
    for _ in range(10):
        assert not looks.look_after(3600.0, t=A).late
    age = looks.overdue.age_s("t", A)
    assert age is not None
    assert age < 10.0


def test_ordinary_lateness_counts() -> None:
    looks = Looks(30.0)
    looks.look(t=A)
    looks.look_after(1.0, t=A)
    assert looks.overdue.age_s("t", A) == 1.0


def test_without_a_limit_nobody_is_late_and_ages_are_known() -> None:
    looks = Looks(None)
    for _ in range(100):
        assert not looks.look(t=A).late
    assert looks.overdue.age_s("t", A) == 99.0
    assert looks.overdue.age_s("t", B) is None
    assert looks.overdue.age_s("other", A) is None


@pytest.mark.parametrize(("limit_s", "pace_s"), [(0.01, 0.02), (0.5, 0.1), (30.0, 0.25), (None, 1.0)])
def test_the_shorter_the_limit_the_more_often_it_looks(limit_s: float | None, pace_s: float) -> None:
    assert Overdue[str](limit_s).pace_s == pace_s
