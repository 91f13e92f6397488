"""Who should have a fresh connection: by table, and simulated with workers whose wake-ups are unfair and late."""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.balance import Sibling, Takers, choose, is_clearly_more

LIMIT = 10_000


def chosen_by(mine: int, others: list[int], waiting: dict[int, int] | None = None, limit: int = LIMIT) -> int | None:
    """Seats are numbered from 1."""
    siblings = [Sibling(seat, count, limit) for seat, count in enumerate(others, 1)]
    return choose(mine, siblings, lambda seat: (waiting or {}).get(seat, 0))


@pytest.mark.parametrize(
    ("mine", "others", "seat"),
    [
        (1, [], None),
        (1, [0], None),
        (4, [0], None),
        (5, [0], 1),
        (5, [1], None),
        (6, [1], 1),
        (37, [33], None),  # up to 33 the four count, above it the twelve in a hundred
        (38, [33], 1),
        (112, [100], None),
        (113, [100], 1),
        (113, [200, 100, 300], 2),
        (113, [100, 100], 1),  # of equals the first
        (113, [99, 98, 97], 3),
        (50, [50, 60], None),
    ],
)
def test_clearly_more_than_the_least_loaded(mine: int, others: list[int], seat: int | None) -> None:
    assert chosen_by(mine, others) == seat


@pytest.mark.parametrize(
    ("mine", "others", "waiting", "seat"),
    [
        (14, [0], {1: 9}, 1),
        (14, [0], {1: 10}, None),
        (14, [0, 5], {1: 10}, 2),
        (14, [0, 5], {1: 4}, 1),
        (14, [0, 5], {1: 5, 2: 0}, 1),
        (14, [0, 5], {1: 6, 2: 0}, 2),
    ],
)
def test_what_lies_in_an_inbox_counts(mine: int, others: list[int], waiting: dict[int, int], seat: int | None) -> None:
    assert chosen_by(mine, others, waiting) == seat


def test_a_sibling_that_is_full_gets_none() -> None:
    assert chosen_by(20, [8, 10], limit=8) is None
    assert chosen_by(20, [7], limit=8) == 1
    assert chosen_by(20, [7], {1: 1}, limit=8) is None  # the last place is taken by one on the way


def test_inboxes_are_asked_about_only_where_that_matters() -> None:
    asked: list[int] = []

    def waiting(seat: int) -> int:
        asked.append(seat)
        return 0

    siblings = [Sibling(seat, count, LIMIT) for seat, count in enumerate([50, 44, 20, 30], 1)]
    assert choose(50, siblings, waiting) == 3
    assert asked == [2, 3]


@given(
    mine=st.integers(1, 2000),
    others=st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 2000), st.integers(0, 50)), max_size=8),
)
def test_the_least_loaded_gets_it_or_nobody(mine: int, others: list[tuple[int, int, int]]) -> None:
    siblings = [Sibling(seat, count, limit) for seat, (count, limit, _) in enumerate(others)]
    seat = choose(mine, siblings, lambda seat: others[seat][2])
    loads = {seat: count + waits for seat, (count, limit, waits) in enumerate(others) if count + waits < limit}
    least = min(loads.values(), default=mine)
    if seat is None:
        assert not is_clearly_more(mine, least)
    else:
        assert loads[seat] == least
        assert is_clearly_more(mine, least)
        assert least + 1 < mine  # a pass never only changes sides


# A simulation


@dataclass
class Node:
    """One worker: what it has, what lies in its inbox, and when its watcher looks there."""

    seat: int
    connections: int = 0
    inbox: deque[int] = field(default_factory=deque)
    """Connections, by the time at which they were sent."""


class Farm:
    """Workers that share one listener.  `late` steps pass until an inbox is looked at; `accepts` says who accepts."""

    def __init__(self, workers: int, late: int, seed: int, accepts: str) -> None:
        self.nodes = [Node(seat) for seat in range(workers)]
        self.late = late
        self.random = random.Random(seed)
        self.accepts = accepts
        self.time = 0
        self.passes = 0

    def acceptor(self) -> Node:
        if self.accepts == "one":  # what epoll does with paced connects: whoever waited least
            return self.nodes[-1]
        if self.accepts == "two":
            return self.nodes[self.random.choice([0, -1])]
        return self.random.choice(self.nodes)

    def connect(self) -> None:
        self.time += 1
        node = self.acceptor()
        siblings = [Sibling(other.seat, other.connections, LIMIT) for other in self.nodes if other is not node]
        mine = node.connections + len(node.inbox) + 1
        seat = choose(mine, siblings, lambda seat: len(self.nodes[seat].inbox))
        if seat is None:
            node.connections += 1
        else:
            self.nodes[seat].inbox.append(self.time)
            self.passes += 1
        for other in self.nodes:
            self.look(other, self.late)

    def look(self, node: Node, late: int) -> None:
        """What has been in the inbox for so long is taken in; it is not passed on again."""
        while node.inbox and node.inbox[0] <= self.time - late:
            node.inbox.popleft()
            node.connections += 1

    def settle(self) -> list[int]:
        for node in self.nodes:
            self.look(node, 0)
        return [node.connections for node in self.nodes]


@pytest.mark.parametrize("accepts", ["one", "two", "anyone"])
@pytest.mark.parametrize("late", [0, 1, 5, 20, 1000], ids=lambda late: f"late {late}")
@pytest.mark.parametrize("workers", [2, 4, 8])
def test_idle_workers_share_what_arrives(workers: int, late: int, accepts: str) -> None:
    """± 20 %, whoever is woken, and even if nobody looks into an inbox before the burst is over."""
    for seed in range(10):
        farm = Farm(workers, late, seed, accepts)
        for _ in range(50 * workers):
            farm.connect()
        shares = farm.settle()
        assert sum(shares) == 50 * workers  # none lost, none doubled
        assert all(40 <= share <= 60 for share in shares), f"{shares} with seed {seed}"
        assert farm.passes < 50 * workers


def test_a_worker_that_is_woken_fairly_passes_little() -> None:
    farm = Farm(4, 0, 1, "anyone")
    for _ in range(2000):
        farm.connect()
    assert farm.passes < 200


def test_new_workers_are_filled_up() -> None:
    """A worker that was replaced has none; what arrives goes there until it has its share, and nobody moves."""
    farm = Farm(4, 3, 1, "one")
    for _ in range(400):
        farm.connect()
    before = farm.settle()
    lost, farm.nodes[1] = before[1], Node(1)
    for _ in range(100):
        farm.connect()
    shares = farm.settle()
    assert sum(shares) == 500 - lost
    assert min(shares) >= 80


# Those who must go


def takers(*found: tuple[int, int, int, int]) -> Takers:
    """(seat, connections, limit, generation) of each; in the inbox of seat 9 there are three."""
    return Takers((Sibling(*one) for one in found), lambda seat: 3 if seat == 9 else 0)


def best(found: Takers, generation: int | None = None) -> int | None:
    taker = found.best(generation)
    return None if taker is None else taker.seat


def test_the_least_loaded_takes_it_and_what_waits_counts() -> None:
    assert best(takers((1, 5, 10, 1), (9, 1, 10, 1), (2, 3, 10, 1))) == 2
    assert best(takers((1, 5, 10, 1), (9, 1, 10, 1))) == 9


def test_of_the_newest_generation() -> None:
    found = takers((1, 0, 10, 1), (2, 8, 10, 2))
    assert best(found) == 2
    assert best(found, 1) == 1
    assert best(found, 3) is None


def test_who_has_no_room_takes_nothing() -> None:
    assert not takers((1, 10, 10, 1), (9, 7, 10, 1))
    assert best(takers()) is None


def test_what_was_given_counts_until_there_is_no_room() -> None:
    found = takers((1, 0, 2, 1), (2, 1, 2, 1))
    given = []
    while (taker := found.best()) is not None:
        given.append(taker.seat)
        found.on_given(taker)
    assert given == [1, 1, 2]
    assert not found


def test_a_full_inbox_is_left_out() -> None:
    found = takers((1, 0, 9, 1), (2, 1, 9, 1))
    taker = found.best()
    assert taker is not None
    found.on_full(taker)
    assert best(found) == 2


def test_an_old_generation_can_be_left_out() -> None:
    found = takers((1, 0, 9, 1), (2, 0, 9, 2), (3, 0, 9, 3))
    found.leave_out(2)
    assert best(found) == 3
    assert best(found, 2) is None
