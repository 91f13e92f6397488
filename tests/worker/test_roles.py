"""Who leads: each decision by table, and all of them in any order against a world of our own (Hypothesis)."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paceline.worker.roles import Roles, Why


def crew_of(count: int, limit: int = 8) -> Roles[int]:
    """Members 0 … count-1 have started; 0 leads, the others follow, the last one waiting since the shortest time."""
    roles: Roles[int] = Roles(limit, int)
    for _ in range(count):
        member = roles.hire()
        assert member is not None
        roles.come_back(member)
    return roles


def test_the_first_to_start_leads_and_the_next_follow() -> None:
    roles = crew_of(3)
    assert (roles.leader, roles.followers, roles.leads) == (0, [1, 2], 1)


@pytest.mark.parametrize("why", Why)
def test_the_follower_that_waited_least_leads(why: Why) -> None:
    roles = crew_of(3)
    assert roles.promote(0, why) == (2, False)
    assert (roles.leader, roles.followers, roles.out) == (2, [1], {0})
    assert (roles.eager, roles.watched) == ((1, 0) if why is Why.EAGER else (0, 1))


def test_without_a_follower_one_is_hired_and_nobody_leads_meanwhile() -> None:
    roles = crew_of(1)
    assert roles.promote(0, Why.EAGER) == (1, True)
    assert roles.leader is None
    assert roles.hired == {1}
    assert not roles.is_saturated  # somebody will lead
    assert roles.come_back(1)
    assert roles.leader == 1


def test_a_slow_start_does_not_keep_the_lead_from_who_comes_back() -> None:
    roles = crew_of(1)
    roles.promote(0, Why.EAGER)
    assert roles.come_back(0)
    assert (roles.leader, roles.reclaimed) == (0, 1)
    assert not roles.come_back(1)
    assert roles.followers == [1]


def test_one_is_hired_at_a_time() -> None:
    roles = crew_of(1)
    roles.promote(0, Why.EAGER)
    roles.come_back(0)
    assert roles.promote(0, Why.EAGER) == (None, False)
    assert roles.hired == {1}
    assert (roles.eager, roles.starved) == (2, 0)  # 1 will lead when it has started


def test_at_the_limit_nobody_leads() -> None:
    roles = crew_of(2, limit=2)
    roles.promote(0, Why.EAGER)
    assert roles.promote(1, Why.EAGER) == (None, False)
    assert roles.leader is None
    assert roles.is_saturated
    assert (roles.eager, roles.starved) == (1, 1)
    assert roles.come_back(1)
    assert roles.reclaimed == 1


def test_while_nobody_may_be_hired_the_crew_makes_do() -> None:
    roles = crew_of(1)
    roles.may_hire = False
    assert roles.promote(0, Why.WATCHED) == (None, False)
    assert roles.is_saturated
    assert roles.starved == 1
    assert roles.hire() is None
    roles.may_hire = True
    assert not roles.is_saturated
    assert roles.hire() == 1


@pytest.mark.parametrize("who", [1, 2, 7], ids=["out", "follower", "a stranger"])
def test_only_the_leader_can_be_relieved(who: int) -> None:
    roles = crew_of(3)
    roles.promote(0, Why.EAGER)
    roles.come_back(0)
    roles.promote(2, Why.EAGER)  # 0 leads, 1 follows, 2 is out
    before = (roles.leader, list(roles.followers), set(roles.out), roles.eager, roles.watched, roles.starved)
    assert roles.promote(who, Why.WATCHED) == (None, False)
    assert before == (roles.leader, roles.followers, roles.out, roles.eager, roles.watched, roles.starved)


def test_a_leader_that_never_lost_the_lead_keeps_it() -> None:
    roles = crew_of(2)
    assert roles.come_back(0)
    assert (roles.leader, roles.followers, roles.leads, roles.reclaimed) == (0, [1], 1, 0)


def test_who_was_chosen_in_the_same_moment_does_not_retire() -> None:
    roles = crew_of(2)
    roles.promote(0, Why.EAGER)
    assert not roles.retire(1)
    assert roles.leader == 1


def test_who_retires_is_not_chosen_any_more_and_its_index_is_taken_first() -> None:
    roles = crew_of(3)
    assert roles.retire(1)
    assert roles.promote(0, Why.EAGER) == (2, False)
    assert roles.vacant == [7, 6, 5, 4, 3]  # its thread still exists
    roles.leave(1, 1)
    assert roles.hire() == 1


def test_the_smallest_free_index_is_taken_first() -> None:
    """So that all indices are below the number of members that once existed."""
    roles = crew_of(4)
    for member in (1, 3, 2):
        roles.retire(member)
        roles.leave(member, member)
    assert [roles.hire() for _ in range(3)] == [1, 2, 3]


def test_a_leader_that_is_gone_is_followed_by_a_follower() -> None:
    roles = crew_of(3)
    assert roles.appoint() is None  # there is a leader
    roles.leave(0, 0)
    assert roles.appoint() == 2
    assert (roles.leader, roles.followers, roles.leads) == (2, [1], 2)


def test_nobody_can_be_appointed_where_nobody_waits() -> None:
    roles = crew_of(1)
    roles.leave(0, 0)
    assert roles.appoint() is None
    assert roles.leader is None


def test_dissolved_nobody_leads_or_follows() -> None:
    roles = crew_of(3)
    roles.promote(0, Why.EAGER)
    assert roles.dissolve() == [1]
    assert (roles.leader, roles.followers, roles.out) == (None, [], {0, 1, 2})
    assert roles.dissolve() == []


class Crew(RuleBasedStateMachine):
    """The world keeps a book of its own: what each member does.  A member is its index and a serial number."""

    @initialize(limit=st.integers(1, 5))
    def begin(self, limit: int) -> None:
        self.limit = limit
        self.made = 0
        self.roles: Roles[tuple[int, int]] = Roles(limit, self.make)
        self.does: dict[tuple[int, int], str] = {}
        """leads, waits, calls, starts or retires; who is not in here does not exist."""
        self.stack: list[tuple[int, int]] = []
        """Those that wait, in the order in which they came."""
        self.leads = self.wanted = self.reclaimed = 0
        hired = self.roles.hire()
        assert hired is not None
        self.does[hired] = "starts"

    def make(self, index: int) -> tuple[int, int]:
        self.made += 1
        return index, self.made

    def doing(self, what: str) -> list[tuple[int, int]]:
        return [member for member, does in self.does.items() if does == what]

    def leads_now(self, member: tuple[int, int]) -> None:
        self.does[member] = "leads"
        self.leads += 1

    @precondition(lambda self: self.doing("leads"))
    @rule(why=st.sampled_from(Why))
    def the_leader_blocks(self, why: Why) -> None:
        (leader,) = self.doing("leads")
        chosen, new = self.roles.promote(leader, why)
        self.does[leader] = "calls"
        self.wanted += 1
        if self.stack:
            assert chosen == self.stack.pop()  # last in, first out
            assert not new
            self.leads_now(chosen)
        elif chosen is not None:
            assert new
            assert not self.doing("starts")
            self.does[chosen] = "starts"

    @rule(data=st.data(), why=st.sampled_from(Why))
    def somebody_is_relieved_too_late(self, data: st.DataObject, why: Why) -> None:
        others = [member for member, does in self.does.items() if does != "leads"]
        if others:
            assert self.roles.promote(data.draw(st.sampled_from(others)), why) == (None, False)

    @precondition(lambda self: self.doing("calls") or self.doing("starts"))
    @rule(data=st.data())
    def somebody_comes_back(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(self.doing("calls") + self.doing("starts")))
        nobody_led = not self.doing("leads")
        self.reclaimed += nobody_led and self.does[member] == "calls"
        assert self.roles.come_back(member) is nobody_led
        if nobody_led:
            self.leads_now(member)
        else:
            self.does[member] = "waits"
            self.stack.append(member)

    @precondition(lambda self: self.doing("leads"))
    @rule()
    def the_leader_comes_back_with_the_lead(self) -> None:
        assert self.roles.come_back(self.doing("leads")[0])

    @precondition(lambda self: self.doing("starts"))
    @rule()
    def a_start_fails(self) -> None:
        self.gone(self.doing("starts")[0])
        self.roles.may_hire = False

    @rule()
    def the_pause_is_over(self) -> None:
        self.roles.may_hire = True

    @rule(data=st.data())
    def somebody_has_waited_long_enough(self, data: st.DataObject) -> None:
        if not self.does:
            return
        member = data.draw(st.sampled_from(sorted(self.does)))
        waits = self.does[member] == "waits"
        assert self.roles.retire(member) is waits
        if waits:
            self.does[member] = "retires"
            self.stack.remove(member)

    @precondition(lambda self: self.doing("retires"))
    @rule()
    def a_thread_ends(self) -> None:
        self.gone(self.doing("retires")[0])

    @precondition(lambda self: self.doing("leads"))
    @rule()
    def the_leader_dies_of_a_bug(self) -> None:
        self.gone(self.doing("leads")[0])

    @precondition(lambda self: not self.doing("leads") and not self.doing("starts"))
    @rule()
    def the_watcher_sees_to_it(self) -> None:
        hired = self.roles.hire()
        if hired is not None:
            self.does[hired] = "starts"
        else:
            assert not self.roles.may_hire or len(self.does) == self.limit

    def gone(self, member: tuple[int, int]) -> None:
        del self.does[member]
        self.roles.leave(member, member[0])
        chosen = self.roles.appoint()
        if self.stack and not self.doing("leads"):
            assert chosen == self.stack.pop()
            self.leads_now(chosen)
        else:
            assert chosen is None

    @invariant()
    def each_member_has_one_role(self) -> None:
        roles = self.roles
        assert self.doing("leads") == ([] if roles.leader is None else [roles.leader])
        assert roles.followers == self.stack
        assert roles.out == {*self.doing("calls"), *self.doing("retires")}
        assert roles.hired == set(self.doing("starts"))

    @invariant()
    def nobody_is_forgotten_and_nobody_is_too_many(self) -> None:
        roles = self.roles
        assert roles.members == len(self.does) <= self.limit
        indices = [index for index, _serial in self.does]
        assert sorted(indices + roles.vacant) == list(range(self.limit))
        assert roles.vacant == sorted(roles.vacant, reverse=True)
        assert len(roles.hired) <= 1

    @invariant()
    def nobody_waits_while_nobody_leads(self) -> None:
        assert self.roles.leader is not None or not self.roles.followers

    @invariant()
    def saturated_means_that_only_a_return_helps(self) -> None:
        may_come = self.doing("starts") or (self.roles.may_hire and len(self.does) < self.limit)
        assert self.roles.is_saturated == (not self.doing("leads") and not may_come)

    @invariant()
    def every_outcome_is_counted(self) -> None:
        roles = self.roles
        assert roles.eager + roles.watched + roles.starved == self.wanted
        assert (roles.leads, roles.reclaimed) == (self.leads, self.reclaimed)

    def teardown(self) -> None:
        """Whatever happened: when all come back, one leads and all others follow."""
        if not self.does:
            return
        for member in self.doing("retires"):
            self.gone(member)
        for member in self.doing("calls") + self.doing("starts"):
            self.somebody_returns(member)
        assert len(self.doing("leads")) == (1 if self.does else 0)
        assert len(self.stack) == max(0, len(self.does) - 1)

    def somebody_returns(self, member: tuple[int, int]) -> None:
        if self.roles.come_back(member):
            self.leads_now(member)
        else:
            self.does[member] = "waits"
            self.stack.append(member)


TestRoles = Crew.TestCase
TestRoles.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
