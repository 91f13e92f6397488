"""host/signal_stacks.py: a thread whose own stack is used up still reports its crash."""

import signal
import subprocess
import sys
import threading

from paceline.host import signal_stacks

OVERFLOW = """
import faulthandler, sys, threading
from paceline.host import signal_stacks

faulthandler.enable()

def overflow():
    assert signal_stacks.provide()
    nested = {}
    for _ in range(1_000_000):
        nested = {1: nested}
    sys.setrecursionlimit(10_000_000)
    repr(nested)

threading.Thread(target=overflow).start()
"""


def test_an_overflow_of_the_stack_is_reported_in_any_thread() -> None:
    # ended for sure: by SIGSEGV, or, where this Python counts C frames itself, by an exception
    done = subprocess.run([sys.executable, "-c", OVERFLOW], capture_output=True, text=True, timeout=60, check=False)
    assert ", in overflow" in done.stderr or " in overflow" in done.stderr
    if done.returncode == -signal.SIGSEGV:
        assert "Fatal Python error: Segmentation fault" in done.stderr


def test_it_is_the_threads_own_and_ends_with_it() -> None:
    seen: list[bool] = []

    def run() -> None:
        seen.append(signal_stacks.has_one())
        signal_stacks.provide()
        seen.append(signal_stacks.has_one())

    for _ in range(2):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert seen == [False, True] * 2
