"""The prompt without prompt-toolkit: `input`, with readline where Python has it.

What comes while `input` waits for a key is written above the line being typed, and only the main thread may do that:
readline belongs to it.  So the conversation's thread lays the lines down and sends the main thread a signal.  readline
(and my_fgets, without it) waits in a system call; a signal ends that, and then Python runs the handler there, between
two keys and in the main thread.  A signal that comes at another moment wakes nobody, so it is repeated until the lines
are taken.  Ctrl-C goes the same way.
"""

import os
import signal
import sys
import threading
from collections import deque
from contextlib import suppress

from paceline.connect import rendering
from paceline.connect.dialogue import Dialogue, Next
from paceline.connect.history import History
from paceline.connect.rendering import Line
from paceline.host import signals

try:
    import readline
except ImportError:  # a Python built without it
    readline = None  # type: ignore[assignment]

NOT_INSTALLED = "better editing, and history with search: pip install 'paceline[connect]'"
IS_DUMB = "better editing, and history with search, if this terminal can move its cursor: set TERM to its kind"
INTERRUPTED = 130
_AGAIN_S = 0.05


def run(dialogue: Dialogue, history: History) -> int:
    """Until the user leaves or, after our end, the server does; the exit code.

    Main thread only: it handles SIGUSR1 meanwhile.
    """
    return _Prompt(dialogue, history).run()


def terminal_is_dumb() -> bool:
    """Whether the environment says, or leaves open, that the cursor cannot be moved: nothing for prompt-toolkit."""
    return os.environ.get("TERM", "dumb") == "dumb"


class _Prompt:
    """One run of it."""

    def __init__(self, dialogue: Dialogue, history: History) -> None:
        self._dialogue = dialogue
        self._history = history
        self._main = threading.get_ident()
        self._laid_down: deque[list[Line]] = deque()  # append and popleft only
        """From the conversation's thread, which waits until they are taken: one at most."""
        self._are_there = threading.Event()
        self._are_taken = threading.Event()
        self._is_leaving = False
        self._asking = ""
        """The prompt that stands on the screen; nothing: none does."""
        self._is_writing = False
        self._clear = "\n" if terminal_is_dumb() else "\r\x1b[K"

    def run(self) -> int:
        conversation, view = self._dialogue.conversation, self._dialogue.view
        if hasattr(sys.stdout, "reconfigure"):  # a terminal that cannot show µ shall at least show the rest
            sys.stdout.reconfigure(errors="backslashreplace")
        view.write = self._write
        view.changed = lambda: self._write([])
        self._prepare_readline()
        before: dict[int, signals.Handler] = {}
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, lambda _number, _frame: self._write_above())
        try:
            self._dialogue.greet()
            view.say(IS_DUMB if terminal_is_dumb() else NOT_INSTALLED)
            conversation.start()
            return self._ask()
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            self._is_leaving = True
            self._take()
            conversation.close()
            signals.restore(before)

    def _prepare_readline(self) -> None:
        if readline is not None:
            readline.clear_history()
            for line in self._history.lines:
                readline.add_history(line)
            readline.set_pre_input_hook(self._on_prompt_shown)

    def _on_prompt_shown(self) -> None:
        self._asking = self._dialogue.prompt

    def _ask(self) -> int:
        conversation = self._dialogue.conversation
        while True:
            try:
                self._take()
                line = self._input()
                self._history.add(line)
                then = self._dialogue.on_line(line)
            except KeyboardInterrupt:
                print()
                if self._dialogue.on_interrupt() is Next.LEAVE:
                    return INTERRUPTED
                continue
            except EOFError:
                print()
                then = self._dialogue.on_end()
            if then is Next.LEAVE:
                return 0
            if then is Next.WAIT_FOR_END:
                while not conversation.over.is_set():
                    self._are_there.wait()  # there is a change behind the end
                    self._take()
                return self._dialogue.outcome()

    def _input(self) -> str:
        prompt = self._dialogue.prompt
        # libedit's imitation of readline does not tell when the prompt is shown.
        if readline is None or "libedit" in (readline.__doc__ or ""):
            self._asking = prompt
        try:
            return input(prompt)
        finally:
            self._asking = ""

    def _write(self, lines: list[Line]) -> None:
        if threading.get_ident() == self._main:
            self._take()
            self._print(lines)
            return
        self._are_taken.clear()
        self._laid_down.append(lines)
        self._are_there.set()
        while not self._is_leaving:
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._main, signal.SIGUSR1)
            if self._are_taken.wait(_AGAIN_S):
                break

    def _take(self) -> None:
        """In the main thread: what is laid down."""
        self._are_there.clear()  # first: what is laid down from now on sets it again
        if self._laid_down:
            self._print(self._laid_down.popleft())
            self._are_taken.set()

    def _print(self, lines: list[Line]) -> None:
        sys.stdout.write(rendering.plain(lines))
        sys.stdout.flush()

    def _write_above(self) -> None:
        """The signal's handler: what is laid down, and below it the prompt with what was typed so far."""
        if not self._asking or self._is_writing or not self._laid_down:
            return
        self._is_writing = True  # the next signal may come before we are done
        try:
            sys.stdout.write(self._clear)
            self._take()
            self._asking = self._dialogue.prompt
            sys.stdout.write(self._asking + (readline.get_line_buffer() if readline is not None else ""))
            sys.stdout.flush()
        finally:
            self._is_writing = False
