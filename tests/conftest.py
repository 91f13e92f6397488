"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from leftovers import belongings

_INTEGRATION = Path(__file__).parent / "integration"


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Descriptors, threads and children of this process are the same after the test as before it."""
    before = belongings()
    yield
    changes = belongings().beyond(before)
    assert not changes, "the test left something behind:\n  " + "\n  ".join(changes)


@pytest.fixture(autouse=True)
def _nothing_left_by_integration(request: pytest.FixtureRequest) -> None:
    """Each integration test is held to it without asking."""
    if request.path.is_relative_to(_INTEGRATION):
        request.getfixturevalue("nothing_left")
