"""The board between processes: it survives them, nobody waits for one that is stopped or dead, no word is torn.

Processes are started as scripts, so that each test ends with as many as it began with.
"""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import THREAD, THREAD_STATES
from paceline.scoreboard.snapshot import describe_threads

pytestmark = pytest.mark.usefixtures("nothing_left")


def sit(board: Board, seat: int, *, pid: int) -> None:
    board.sit(seat, pid=pid, slot=seat + 100, generation=3, now_ns=5)


def set_thread(board: Board, seat: int, thread: int, **cells: int) -> None:
    for name, value in cells.items():
        board.words[board.layout.thread_index(seat, thread) + THREAD[name]] = value


PRELUDE = """
import os, signal, sys
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import THREAD, THREAD_STATES
"""


def run(script: str, *fds: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *map(str, fds)],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_what_forked_children_store_is_there_when_they_are_gone() -> None:
    said = run("""
board = Board.create(4, 8)
for seat in range(4):
    if not (pid := os.fork()):
        board.sit(seat, pid=os.getpid(), slot=seat, generation=1, now_ns=1)
        row = board.layout.thread_index(seat, 7)
        board.words[row + THREAD["calls"]] += seat + 1
        board.close()   # the child's own mapping and descriptor
        os._exit(0)
    os.waitpid(pid, 0)
seen = board.snapshot()
print([seat.worker["slot"] for seat in seen.occupied], seen.calls)
board.close()
""")
    assert said == "[0, 1, 2, 3] 10\n"


def test_a_board_lives_on_through_exec_by_the_number_of_its_descriptor() -> None:
    said = run("""
board = Board.create(2, 2, supervisor_pid=os.getpid(), created_ns=5)
board.words[board.layout.thread_index(1, 1) + THREAD["calls"]] = 42
os.set_inheritable(board.fd, True)
again = '''
import os, sys
from paceline.scoreboard.board import Board
board = Board.attach(int(sys.argv[1]))
print(board.header.supervisor_pid == os.getpid(), board.snapshot().calls, board.is_current)
print(len(os.listdir("/proc/self/fd")) - 4 - 1)
board.close()
'''
sys.stdout.flush()
os.execv(sys.executable, [sys.executable, "-c", again, str(board.fd)])
""")
    # 0, 1, 2 and that of listdir; the board's own; and the duplicate that its mapping keeps
    assert said == "True 42 True\n1\n"


def test_a_stranger_reads_by_descriptor_without_asking_anybody(cleanup: ExitStack, board: Board) -> None:
    sit(board, 5, pid=4711)
    set_thread(board, 5, 0, state=THREAD_STATES["calling"], calls=3)
    reader = os.open(f"/proc/self/fd/{board.fd}", os.O_RDONLY | os.O_CLOEXEC)
    cleanup.callback(os.close, reader)
    said = run(
        """
board = Board.attach(int(sys.argv[1]))
print(board.snapshot().running())
""",
        reader,
    )
    assert said == "frozenset({Call(seat=5, thread=0, pid=4711, calls=3, messages=0)})\n"


class Writer:
    """A process that runs a script with the board and says a line when it has begun."""

    def __init__(self, cleanup: ExitStack, board: Board, script: str) -> None:
        self.child = cleanup.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", PRELUDE + script, str(board.fd)],
                pass_fds=(board.fd,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        )
        cleanup.callback(self.child.kill)  # no error when it is dead
        assert self.child.stdout is not None
        assert self.child.stdout.readline() == b"begun\n"


COUNTING = """
board = Board.attach(int(sys.argv[1]))
words, row = board.words, board.layout.thread_index(0, 0)
board.sit(0, pid=os.getpid(), slot=0, generation=1, now_ns=1)
calls, state, calling = row + THREAD["calls"], row + THREAD["state"], THREAD_STATES["calling"]
words[calls] = 1
words[state] = calling
print("begun", flush=True)
while True:
    words[calls] += 1
"""


def test_a_stopped_or_killed_writer_blocks_nobody(cleanup: ExitStack, board: Board) -> None:
    writer = Writer(cleanup, board, COUNTING)
    pid = writer.child.pid
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    first, second = board.snapshot(), board.snapshot()
    assert first == second
    assert {call.pid for call in first.running()} == {pid}
    writer.child.kill()
    writer.child.wait()
    assert describe_threads(board.snapshot(), 0) == "1 thread was in a call"
    sit(board, 0, pid=1)  # the next one writes at once
    set_thread(board, 0, 0, calls=first.calls + 1)
    assert board.snapshot().calls == first.calls + 1


def test_a_counter_that_another_process_counts_never_seems_to_fall(cleanup: ExitStack, board: Board) -> None:
    Writer(cleanup, board, COUNTING)
    seen = [board.snapshot().calls]
    while len(seen) < 300 or seen[-1] == seen[0]:
        seen.append(board.snapshot().calls)
    assert seen == sorted(seen)


def test_no_word_is_ever_seen_half_written(cleanup: ExitStack, board: Board) -> None:
    Writer(
        cleanup,
        board,
        """
board = Board.attach(int(sys.argv[1]))
words, cell, full = board.words, board.layout.thread_index(0, 0) + THREAD["calls"], (1 << 64) - 1
words[cell] = full
print("begun", flush=True)
while True:
    words[cell] = 0
    words[cell] = full
""",
    )
    cell = board.layout.thread_index(0, 0) + THREAD["calls"]
    around = board.words[cell - 1 : cell + 2]
    seen: set[int] = set()
    while len(seen) < 2:
        seen |= {around.tolist()[1] for _ in range(100_000)} | {board.words[cell] for _ in range(100_000)}
    around.release()
    assert seen == {0, (1 << 64) - 1}
