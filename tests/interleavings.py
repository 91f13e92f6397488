"""Every order in which the steps of several actors can fall: forced, not hoped for.

    class World(Stage):
        def actors(self): return [self.poller, self.owner]      # functions; each is run by a thread of its own
        def check(self): ...                                    # after all have ended

    assert every_order(World) > 20                              # how many orders there were

An actor runs real code on containers that belong to the stage (`stage.dict()`, `.set()`, `.deque()`): before each
operation on one of them it stops, and the next to go on is chosen.  Between two such stops nobody else runs, so an
order of stops is all there is to say about a run, and the orders are enumerated depth first.  With `preemptions`, only
those in which an actor is interrupted at most so often: most races need one or two, and three actors have too many
orders otherwise.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

DEADLINE_S = 10.0

K = TypeVar("K")
V = TypeVar("V")


class Stage:
    """One run: what the actors share."""

    def __init__(self) -> None:
        self._go: dict[threading.Thread, threading.Lock] = {}
        """Each a binary semaphore, as is `_back`: taken while there is nothing to do."""
        self._back = _taken()
        self._errors: list[BaseException] = []

    def actors(self) -> list[Callable[[], None]]:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def step(self) -> None:
        """The actor that calls this stops until it is chosen again.  Outside of a run: nothing."""
        go = self._go.get(threading.current_thread())
        if go is not None:
            self._back.release()
            assert go.acquire(timeout=DEADLINE_S), "the run was given up"

    def dict(self) -> "dict[Any, Any]":
        return StepDict(self)

    def set(self) -> "set[Any]":
        return StepSet(self)

    def deque(self) -> "deque[Any]":
        return StepDeque(self)

    def play(self, order: list[int], preemptions: int | None) -> list[tuple[int, int]]:
        """Run once: follow `order`, then always the first choice.  (choice, how many there were) at each stop."""
        threads = [threading.Thread(target=self._act, args=(actor,), daemon=True) for actor in self.actors()]
        for thread in threads:
            self._go[thread] = _taken()
            thread.start()
        made: list[tuple[int, int]] = []
        running: threading.Thread | None = None
        interrupted = 0
        left = list(threads)
        while left:
            # The one that runs comes first: to go on with it is no interruption.
            choices = sorted(left, key=lambda thread: thread is not running)
            if running in left and preemptions is not None and interrupted >= preemptions:
                choices = choices[:1]
            choice = order[len(made)] if len(made) < len(order) else 0
            made.append((choice, len(choices)))
            interrupted += running in left and choice > 0
            running = choices[choice]
            self._go[running].release()
            assert self._back.acquire(timeout=DEADLINE_S), "an actor waits for something else than its turn"
            left = [thread for thread in left if thread in self._go]
        for thread in threads:
            thread.join()
        for error in self._errors:
            raise error
        self.check()
        return made

    def _act(self, actor: Callable[[], None]) -> None:
        me = threading.current_thread()
        go = self._go[me]
        try:
            assert go.acquire(timeout=DEADLINE_S)
            actor()
        except BaseException as error:  # noqa: BLE001 - raised again by `play`
            self._errors.append(error)
        finally:
            del self._go[me]
            self._back.release()


def _taken() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def every_order(make: Callable[[], Stage], preemptions: int | None = None) -> int:
    """Play all orders; how many there were.  What goes wrong is raised, with the order as a note."""
    order: list[int] = []
    played = 0
    while True:
        stage = make()
        try:
            made = stage.play(order, preemptions)
        except BaseException as error:
            error.add_note(f"in the order {order}, and then always the first")
            raise
        played += 1
        while made and made[-1][0] + 1 >= made[-1][1]:
            made.pop()
        if not made:
            return played
        order = [choice for choice, _count in made[:-1]] + [made[-1][0] + 1]


class StepDict(dict[K, V], Generic[K, V]):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def __contains__(self, key: object) -> bool:
        self.stage.step()
        return super().__contains__(key)

    def __setitem__(self, key: K, value: V) -> None:
        self.stage.step()
        super().__setitem__(key, value)

    def pop(self, key: K, default: Any = None) -> Any:
        self.stage.step()
        return super().pop(key, default)


class StepSet(set[K]):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def __len__(self) -> int:
        self.stage.step()
        return super().__len__()

    def __contains__(self, key: object) -> bool:
        self.stage.step()
        return super().__contains__(key)

    def add(self, key: K) -> None:
        self.stage.step()
        super().add(key)

    def discard(self, key: object) -> None:
        self.stage.step()
        super().discard(key)


class StepDeque(deque[K]):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def append(self, value: K) -> None:
        self.stage.step()
        super().append(value)

    def popleft(self) -> K:
        self.stage.step()
        return super().popleft()

    def __iter__(self) -> Iterator[K]:
        return super().__iter__()
