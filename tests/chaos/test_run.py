"""chaos/run.py, and all that it sets going: what goes wrong is found, and nothing is left, whatever happens.

The servers of these runs have no faults done to them: what is broken is what they serve.
"""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from faultbed import planned, show, suffer
from paceline.chaos.result import Result
from paceline.chaos.run import run
from paceline.errors import TargetError, UsageError

pytestmark = pytest.mark.usefixtures("nothing_left")

APP = """
    import itertools
    import time
    import paceline

    numbers = itertools.count(1)
    last = [b"nothing"]

    def echo(line):
        return line

    def twice(line):
        return [line, line] if next(numbers) % 40 == 0 else line

    def foreign(line):
        before, last[0] = last[0], line
        return before if next(numbers) % 40 == 0 else line

    def wrong(line):
        return b"nonsense" if next(numbers) % 40 == 0 else line

    def hang_up(line):
        if next(numbers) % 40 == 0:
            raise ValueError("one in forty")
        return line

    def half(line):
        return paceline.Close(line) if next(numbers) % 40 == 0 else line

    def silent(line):
        return None if next(numbers) % 40 == 0 else line

    def slow(line):
        if next(numbers) % 40 == 0:
            time.sleep(0.3)
        return line
"""


def loaded(folder: Path, name: str, **changed: Any) -> Result:
    (folder / "app.py").write_text(textwrap.dedent(APP))
    settings: dict[str, Any] = {
        "target": f"app.py:{name}", "where": str(folder), "echo": True, "lasting_s": 0.7, "patience_s": 1.0,
        "workers": 1,
    }  # fmt: skip
    result = run(planned(**{**settings, **changed}))
    show(result)
    return result


def test_a_server_that_does_as_it_should(tmp_path: Path) -> None:
    result = loaded(tmp_path, "echo")
    assert not result.broken
    assert result.tally.answered == result.tally.sent > 100
    assert result.tally.connections > 50, "some come anew for each message"
    assert result.rest is not None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("twice", "answered twice (client"),
        ("foreign", "somebody else's reply (client"),
        ("wrong", "no reply to anything (client"),
        ("hang_up", "without a reply: client"),
        ("half", "disconnected between two messages: client"),
        ("silent", "no reply in time: client"),
    ],
)
def test_what_is_wrong_is_found(name: str, said: str, tmp_path: Path) -> None:
    result = loaded(tmp_path, name)
    assert any(said in each.what for each in result.broken), [each.what for each in result.broken]


def test_without_echo_any_reply_counts(tmp_path: Path) -> None:
    result = loaded(tmp_path, "wrong", echo=False)
    assert not result.broken
    assert result.tally.answered > 100


def test_stalls_are_seen(tmp_path: Path) -> None:
    assert loaded(tmp_path, "slow").worst_stall_s >= 0.3


def test_the_load_of_the_application_in_the_box() -> None:
    result = run(planned(lasting_s=0.5))
    show(result)
    assert not result.broken
    assert result.tally.versions == 1


def test_a_fault_and_its_figures() -> None:
    result = suffer("kill", 2)
    count = result.books.counts["kill"]
    assert (count.injected, len(count.took_s)) == (2, 2)
    assert [name for _, name, _ in result.schedule] == ["kill", "kill"]


def test_a_seed_repeats_the_faults() -> None:
    names = [[name for _, name, _ in suffer("kill reset half slow", 4).schedule] for _ in range(2)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("target", "error", "said"),
    [
        ("nowhere:f", TargetError, "the server did not start: no module named 'nowhere'"),
        ("app.py:nothing", TargetError, "nothing"),
    ],
)
def test_a_server_that_does_not_start(target: str, error: type[Exception], said: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    with pytest.raises(error, match=said):
        run(planned(target=target, where=str(tmp_path), lasting_s=1.0))


def test_a_wrong_setting_is_told_by_the_server() -> None:
    with pytest.raises(UsageError, match="--threads"):
        run(planned(lasting_s=1.0, settings=("--threads=0",)))
