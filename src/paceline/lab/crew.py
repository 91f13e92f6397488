"""Threads of the process that measures: each with a job, all waiting at a gate until they are let go together.

Whatever happens in the block, an interrupt too, no thread is left after it: jobs that go on until they are told look at
`ended`, all others are bounded.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from paceline.errors import HostError


class Crew:
    """`with Crew(jobs) as crew:` one thread for each job; none begins before `begin`.

    ended   set when the block ends, or by whoever wants the jobs to end
    """

    def __init__(self, jobs: Sequence[Callable[[], Any]]) -> None:
        self.ended = threading.Event()
        self._gate = threading.Event()
        self._is_called_off = False  # written before the gate opens
        self._answers: list[Any] = [None] * len(jobs)  # each place is written by its thread, read after its end
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._do, args=(place, job), daemon=True) for place, job in enumerate(jobs)
        ]

    def __enter__(self) -> Self:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException as error:
            self._end()
            if isinstance(error, RuntimeError):
                raise HostError(f"a thread could not be made: {error}") from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def begin(self) -> None:
        """Open the gate."""
        self._gate.set()

    def answers(self) -> list[Any]:
        """What each job returned, in their order; waits for all.  Raises what one of them raised."""
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._answers

    def _do(self, place: int, job: Callable[[], Any]) -> None:
        self._gate.wait()
        if self._is_called_off:
            return
        try:
            self._answers[place] = job()
        except BaseException as error:  # noqa: BLE001 - it is raised where the answers are asked for
            self._errors.append(error)

    def _end(self) -> None:
        if not self._gate.is_set():
            self._is_called_off = True
            self._gate.set()
        self.ended.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
