"""Fixtures for all tests."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from leftovers import belongings

_INTEGRATION = Path(__file__).parent / "integration"

# How fast a machine makes examples says nothing about what is tested; in a fresh clone the first texts take a second.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`: half of the tests for each process, in their order; who is done takes from what the others have left.

    So neighbours stay together, and with them what a file keeps for all of its tests.
    """
    if getattr(config.option, "numprocesses", None) and config.option.dist == "load":  # what -n alone means
        config.option.dist = "worksteal"


@pytest.fixture(scope="session", autouse=True)
def _a_runtime_folder_of_our_own() -> Iterator[None]:
    """Servers of the tests are found by nobody else, and leave nothing where real ones are."""
    folder = tempfile.mkdtemp(prefix="paceline-run-")
    before = os.environ.get("PACELINE_RUNTIME_DIR")
    os.environ["PACELINE_RUNTIME_DIR"] = folder
    yield
    del os.environ["PACELINE_RUNTIME_DIR"]
    if before is not None:
        os.environ["PACELINE_RUNTIME_DIR"] = before
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def _old_things_are_no_garbage() -> None:
    """What is there before a file's tests stays: garbage is looked for only among what is younger.

    Each comparison of belongings collects garbage first, thousands of times in all; with all that pytest keeps of all
    tests among it, one collection took 0.15 s, and the whole suite twice as long.
    """
    gc.collect()
    gc.freeze()


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
