"""The prompt with prompt-toolkit: editing, history with search, completion of commands, replies above the prompt line.

The asyncio loop is that of prompt-toolkit and runs in the main thread.  The conversation's thread writes by asking the
loop, and waits until it has written.  prompt-toolkit replaces control characters in the texts that it writes, too,
though none is left in them.
"""

import asyncio
import threading
from collections.abc import Iterable, Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History as Remembered
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from paceline.connect.commands import COMMANDS
from paceline.connect.dialogue import Dialogue, Next
from paceline.connect.history import History
from paceline.connect.rendering import Line

_STYLE = Style.from_dict({"escape": "ansicyan", "quiet": "ansibrightblack", "trouble": "ansired", "prompt": "bold"})
INTERRUPTED = 130


def run(dialogue: Dialogue, history: History) -> int:
    """Until the user leaves or, after our end, the server does; the exit code."""
    try:
        return asyncio.run(_Prompt(dialogue, history).run())
    except KeyboardInterrupt:
        return INTERRUPTED


class _Prompt:
    """One run of it."""

    def __init__(self, dialogue: Dialogue, history: History) -> None:
        self._dialogue = dialogue
        self._session: PromptSession[str] = PromptSession(
            self._message,
            history=_Kept(history),
            completer=_Commands(),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            style=_STYLE,
        )

    def _message(self) -> FormattedText:
        return FormattedText([("class:prompt", self._dialogue.prompt)])

    async def run(self) -> int:
        conversation, view = self._dialogue.conversation, self._dialogue.view
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        view.write = self._write
        view.changed = self._session.app.invalidate  # from any thread
        try:
            self._dialogue.greet()
            conversation.start()
            return await self._ask()
        finally:
            # The loop goes on meanwhile: the conversation's thread may be waiting for it to write.
            await asyncio.to_thread(conversation.close)

    async def _ask(self) -> int:
        # Between two prompts, too: what is typed then is neither shown by the terminal itself nor lost.
        with self._session.app.input.raw_mode():
            code = await self._ask_until_the_end()
        if code is not None:
            return code
        await asyncio.to_thread(self._dialogue.conversation.over.wait)
        return self._dialogue.outcome()

    async def _ask_until_the_end(self) -> int | None:
        """The exit code; None: our end is sent, and the server's decides."""
        text = ""
        while True:
            try:
                line = await self._session.prompt_async(default=text)
            except KeyboardInterrupt:
                text, then = "", self._dialogue.on_interrupt()
                if then is Next.LEAVE:
                    return INTERRUPTED
                continue
            except EOFError:
                line, then = "", self._dialogue.on_end()
            else:
                then = self._dialogue.on_line(line)
            text = line if then is Next.EDIT else ""
            if then is Next.LEAVE:
                return 0
            if then is Next.WAIT_FOR_END:
                return None

    def _write(self, lines: list[Line]) -> None:
        if threading.get_ident() == self._thread:  # of what a line asked for: there is no prompt then
            self._print(lines)
            return
        asyncio.run_coroutine_threadsafe(self._print_above(lines), self._loop).result()

    async def _print_above(self, lines: list[Line]) -> None:
        await run_in_terminal(lambda: self._print(lines))

    def _print(self, lines: list[Line]) -> None:
        fragments = FormattedText([fragment for line in lines for fragment in (*line, ("", "\n"))])
        print_formatted_text(self._session.output, fragments, _STYLE)


class _Kept(Remembered):
    """Our file, as prompt-toolkit wants it."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def load_history_strings(self) -> Iterator[str]:
        return reversed(self._history.lines)

    def store_string(self, string: str) -> None:
        self._history.add(string)


class _Commands(Completer):
    """Names of commands, and the path behind /file."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        if text.startswith("/file "):
            path = text.removeprefix("/file ").lstrip()
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)
        elif text.startswith("/") and " " not in text:
            for name, (argument, what) in COMMANDS.items():
                if name.startswith(text):
                    yield Completion(name + (" " if argument else ""), -len(text), display_meta=what)
