"""chaos/books.py: losses are judged in time, stalls belong to what was on, what is unexplained is a broken promise."""

from dataclasses import replace

from paceline.chaos.books import REMEMBERED_S, SHOWN, Books, Count
from paceline.chaos.catalogue import TABLE, Loses
from paceline.chaos.judge import How, Loss, Wound
from paceline.chaos.messages import Wrong

KILL = Wound("kill", 4, Loses.VICTIMS, (100,), 10.0, 10.2)
LOSS = Loss(How.RESET_AFTER, client=3, messages=2, is_fresh=False, pid=100, since_s=9.9, at_s=10.1)


def books_with(*wounds: Wound) -> Books:
    books = Books()
    books.wounds.extend(wounds)
    return books


def test_an_explained_loss_is_counted_with_its_fault() -> None:
    books = books_with(KILL)
    books.on_heard({"loss": LOSS.to_json()}, 0.0)
    books.on_heard({"loss": replace(LOSS, how=How.PARKED, messages=0).to_json()}, 0.0)
    books.settle(20.0, 0.0)
    assert books.lost_by[How.RESET_AFTER, "kill"] == 2
    assert books.cut_by == {(How.RESET_AFTER, "kill"): 1, (How.PARKED, "kill"): 1}
    assert (books.counts["kill"].lost, books.counts["kill"].cut) == (2, 2)
    assert books.broken == []


def test_who_was_asked_to_leave_has_left_in_peace() -> None:
    """Its connections moved to the one that was killed afterwards."""
    term = Wound("term", 3, Loses.NOTHING, (99,), 9.0, 9.5)
    books = books_with(term, KILL)
    books.on_here({99, 100}, 8.9)
    books.on_here({100}, 9.1)
    books.on_here({101}, 10.1)
    assert books.left == {99: 9.1}, "and who was killed has not"
    books.on_heard({"loss": replace(LOSS, pid=99).to_json()}, 0.0)
    books.settle(20.0, 0.0)
    assert (books.cut_by, books.broken) == ({(How.RESET_AFTER, "kill"): 1}, [])


def test_a_loss_waits_until_all_wounds_of_its_time_are_known() -> None:
    books = Books()
    books.on_heard({"loss": LOSS.to_json()}, 0.0)
    books.settle(10.05, 0.0)
    assert not books.cut_by
    books.wounds.append(KILL)
    books.settle(12.0, 0.0)
    assert books.cut_by == {(How.RESET_AFTER, "kill"): 1}


def test_an_unexplained_loss_is_broken_and_told_with_all_that_is_known() -> None:
    books = books_with(KILL)
    books.on_heard({"loss": replace(LOSS, pid=101).to_json()}, 0.0)
    books.settle(20.0, 4.0)
    (broken,) = books.broken
    assert broken.what == (
        "reset after the message was sent: client 3 of pid 101, 2 under way, 6.100 s after the start, 0.200 s after it "
        "was last well; that time saw kill of 100 (step 4)"
    )
    assert books.cut_by == {(How.RESET_AFTER, ""): 1}


def test_a_wrong_reply_is_broken_whatever_was_on() -> None:
    books = books_with(KILL)
    books.on_heard({"wrong": Wrong.DUPLICATE, "client": 3, "at_s": 10.1, "pid": 100}, 10.0)
    assert books.broken[0].what == "answered twice (client 3, 0.100 s after the start)"


def test_only_some_are_told_and_the_others_counted() -> None:
    books = Books()
    for _ in range(SHOWN + 3):
        books.breaks("x", 1, 1.0)
    assert (len(books.broken), books.broken_more) == (SHOWN, 3)


def test_a_stall_belongs_to_what_was_on() -> None:
    books = books_with(KILL)
    for stall in ([10.1, 10.4], [9.0, 9.5]):
        books.on_heard({"stall": stall}, 0.0)
    books.settle(20.0, 0.0)
    assert round(books.counts["kill"].worst_stall_s, 3) == 0.3
    assert books.counts["kill"].stalls == 1
    assert books.calm_stall_s == 0.5


def test_old_wounds_are_forgotten() -> None:
    books = books_with(KILL)
    books.settle(10.1 + REMEMBERED_S, 0.0)
    assert books.wounds
    books.settle(10.3 + REMEMBERED_S, 0.0)
    assert not books.wounds


def test_faults_are_counted_with_how_long_it_took() -> None:
    books = Books()
    for took_s in (0.3, None, 0.1, 0.2):
        books.on_injected(TABLE["kill"], took_s)
    count = books.counts["kill"]
    assert (count.injected, count.took(50), count.took(99), count.took(100)) == (4, 0.2, 0.3, 0.3)
    assert Count().took(50) is None
