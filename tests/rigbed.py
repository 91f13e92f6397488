"""Workers under a stand-in for the supervisor, a program of its own: what processbed.py and crewbed.py have in common.

A process of its own, so that what a worker does to its surroundings does not happen to the tests, and so that it can be
killed.  It says in lines of JSON what it hears (`tell`), and does what it is told in such lines (`Onlooker.order`).
When its input ends, it kills the workers that are left, and ends.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from leftovers import adopt_orphans, belongings, end_processes, eventually
from paceline import clock

DEADLINE_S = 20.0


class Onlooker:
    """What a test sees of the stand-in, and tells it."""

    def __init__(self, rig: "subprocess.Popen[bytes]", folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.records: list[dict[str, Any]] = []
        self._kept = b""

    @property
    def log(self) -> str:
        """What was written to standard error."""
        return (self.folder / "log").read_text()

    def wait_log(self, text: str) -> None:
        eventually(lambda: text in self.log, DEADLINE_S)

    def wait_for(self, key: str, seat: int | None = None, value: object = None) -> dict[str, Any]:
        """The first record that has this key (of this seat, with this value); AssertionError after `DEADLINE_S`."""
        deadline = clock.now() + DEADLINE_S
        seen = 0
        while True:
            for record in self.records[seen:]:
                if key in record and seat in (None, record.get("seat")) and value in (None, record[key]):
                    return record
            seen = len(self.records)
            if not self.read_record(deadline):
                raise AssertionError(f"no {key} {value or ''} of {seat}; there was {self.records}; log:\n{self.log}")

    def order(self, **command: object) -> None:
        """The stand-in is told to do this."""
        assert self.rig.stdin is not None
        self.rig.stdin.write(json.dumps(command).encode() + b"\n")
        self.rig.stdin.flush()

    def read_record(self, deadline: float) -> bool:
        """One more is in `records`; False when none has come by then, or none will."""
        assert self.rig.stdout is not None
        while b"\n" not in self._kept:
            poll = select.poll()
            poll.register(self.rig.stdout, select.POLLIN)
            if not poll.poll(max(0.0, deadline - clock.now()) * 1000):
                return False
            piece = os.read(self.rig.stdout.fileno(), 65536)
            if not piece:
                return False
            self._kept += piece
        line, _, self._kept = self._kept.partition(b"\n")
        self.records.append(json.loads(line))
        return True


@contextmanager
def stand_in(
    program: str, source: str, attribute: str, gates: tuple[str, ...] = (), **config: object
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The program runs, in a folder with this source (dedented) as app.py; `gates` are named pipes there.

    At the end what still runs is killed, and nothing is left.
    """
    before, adopted_before = belongings(), adopt_orphans(True)
    with tempfile.TemporaryDirectory(prefix="paceline-test-") as name:
        folder = Path(name)
        write_app(folder, source)
        for gate in gates:
            os.mkfifo(folder / gate)
        with open(folder / "log", "wb") as log:
            rig = subprocess.Popen(
                [sys.executable, program, json.dumps({"target": f"{folder}/app.py:{attribute}", **config})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                env={**os.environ, "PWD": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
                process_group=0,
            )
        assert rig.stdin is not None
        assert rig.stdout is not None
        try:
            yield rig, folder
        except BaseException as error:
            error.add_note(f"The log:\n{textwrap.indent((folder / 'log').read_text(), '    ')}")
            raise
        finally:
            with suppress(BrokenPipeError):
                rig.stdin.close()
            rig.stdout.close()
            rig.wait()
            strays = belongings().children.keys() - before.children.keys()
            end_processes(list(strays))
            adopt_orphans(adopted_before)
    assert not (changes := belongings().beyond(before)), changes


def write_app(folder: Path, source: str) -> None:
    (folder / "app.py").write_text(textwrap.dedent(source))


def tell(**record: object) -> None:
    """The stand-in says this to the test."""
    os.write(1, json.dumps(record).encode() + b"\n")
