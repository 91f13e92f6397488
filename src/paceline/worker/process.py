"""A worker's life as a process: from the fork to its last word.

`main` runs in the child, on its only thread, with all signals blocked; supervisor/child.py has closed what is not ours.

    the log, the prints   →   the user's import, on this thread   →   construction and `start`
    →   signals as we want them   →   the first thread   →   Ready   →   the watcher's loop   →   `stop`   →   Leaving

User code runs on the main thread only before Ready and after the drain.  What it changed meanwhile that we depend on
(signal handlers, SIGPIPE, the switch interval) is set again after the import.
"""

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
from typing import NoReturn

from paceline import clock
from paceline.errors import PacelineError, TargetError
from paceline.handlers import Handler, examine
from paceline.host import signals
from paceline.host.output import Log, redirect_prints
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.wire import Framing, Raw, as_framing, describe
from paceline.worker import messages
from paceline.worker.assembly import assemble
from paceline.worker.calls import contained
from paceline.worker.gate import Shut
from paceline.worker.plan import Plan
from paceline.worker.target import load_target, user_traceback
from paceline.worker.watcher import GRACE_S, Watcher
from paceline.worker.worker import Worker

BUG_EXIT, FAILED_EXIT, CUT_EXIT = 1, 3, 4

_IGNORED = (
    signal.SIGINT,  # Ctrl-C reaches the whole group; the supervisor decides
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGTSTP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGPIPE,  # a write to a peer that is gone is an exception
)


def main(plan: Plan) -> NoReturn:
    """Be the worker that `plan` describes.  Never returns.  Exit codes: 0, 1 our bug, 3 no start, 4 calls were cut."""
    code = BUG_EXIT
    try:
        code = _live(plan)
    except BaseException as error:  # noqa: BLE001 - a bug of ours; os._exit below must not hide it
        _tell_failure(plan, error, "a bug in Paceline")
    finally:
        os._exit(code)


def _live(plan: Plan) -> int:
    settings = plan.settings
    log = Log(f"worker {plan.slot}", settings.log_format)
    faulthandler.enable(plan.fault_fd, all_threads=True)
    faulthandler.dump_traceback_later(settings.boot_timeout + 4 * settings.heartbeat, exit=True, file=plan.fault_fd)
    wake_read, wake_write = signals.open_wakeup_pipe()
    _take_signals(wake_write)
    prints = redirect_prints(log)
    try:
        return _serve(plan, log, wake_read, wake_write)
    finally:
        prints.flush_all()


def _serve(plan: Plan, log: Log, wake_read: int, wake_write: int) -> int:
    settings = plan.settings
    with contextlib.suppress(OSError, KeyError):
        # By its textual name (cli/launch.py): a deployment that exchanges a symbolic link is then seen by new workers.
        os.chdir(os.environ["PWD"])
    try:
        handler, framing = _load(plan)
    except PacelineError as error:
        return _tell_failure(plan, error, str(error), exit_code=error.exit_code)
    except BaseException as error:  # noqa: BLE001 - the user's code, whatever it raises
        return _tell_failure(plan, error, f"{plan.target} raised {type(error).__name__} while it was loaded")
    if "start" in handler.hooks:
        try:
            handler.hooks["start"]()
        except BaseException as error:  # noqa: BLE001
            return _tell_failure(plan, error, f"{handler.name}.start() raised {type(error).__name__}")
    ready = messages.Ready(handler.kind, describe(framing), handler.name)
    if plan.check:
        _send(plan, ready)
        contained_quietly(handler)
        return 0
    # Whatever the import has done to them.
    _take_signals(wake_write)
    sys.setswitchinterval(settings.switch_interval)
    parts = assemble(plan, log, handler, framing, wake_read)
    worker, watcher = parts.worker, parts.watcher
    os.register_at_fork(after_in_child=lambda: _after_fork_in_child(plan, worker))
    if not parts.start():
        return _tell_failure(plan, None, f"{handler.name}.thread_start() raised; the log above says what")
    worker.gauge("state", WorkerState.READY)
    _send(plan, ready)
    signals.unblock_all()
    worker.gate.open(Shut.STARTING)
    cut = watcher.run()
    return _leave(plan, worker, watcher, cut)


def _take_signals(wake_fd: int) -> None:
    signals.ignore(*_IGNORED)
    signals.deliver_to_wakeup(signal.SIGTERM)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signals.install_wakeup_fd(wake_fd)


def _load(plan: Plan) -> tuple[Handler, Framing]:
    settings = plan.settings
    if isinstance(plan.target, str):
        name = plan.target
        found = load_target(name)
    else:
        found = plan.target
        name = getattr(found, "__qualname__", type(found).__qualname__)
    handler = examine(found, name, settings.as_)
    if handler.kind == "connection":
        if settings.framing is not None:
            raise TargetError(
                f"{name} is a connection handler, which reads the bytes itself: --framing {settings.framing} has no "
                f"meaning for it; leave it out, or serve a message handler"
            )
        return handler, Raw(limit=settings.max_message)
    marked = settings.framing if settings.framing is not None else handler.marks.framing
    return handler, as_framing(marked if marked is not None else "raw", settings.max_message)


def _after_fork_in_child(plan: Plan, worker: Worker) -> None:
    """A handler forked: its child keeps nothing of ours open, and never serves."""
    worker.on_forked_child()
    # The dead man's timer is a thread, which a fork does not copy; cancelling it would wait for that thread for ever.
    signals.install_wakeup_fd(-1)
    for listener in plan.listeners:
        listener.socket.close()
    for inbox in plan.inboxes:
        inbox.reader.close()
        inbox.writer.close()
    plan.control.close()


def _leave(plan: Plan, worker: Worker, watcher: Watcher, cut: int) -> int:
    """The threads' stop hooks, the worker's, the last word."""
    if cut == 0:
        watcher.stop_threads(clock.now() + GRACE_S)
    contained(worker, "stop", worker.hook("stop"))
    with contextlib.suppress(Exception):
        # os._exit skips them, and coverage tools, profilers and reporters rely on them.
        atexit._run_exitfuncs()
    words, row = worker.words, worker.row
    words[row + WORKER["state"]] = WorkerState.GONE
    words[row + WORKER["logs_dropped"]] = worker.log.dropped
    worker.log.say("drained")
    _send(plan, messages.Leaving(cut))
    return CUT_EXIT if cut else 0


def contained_quietly(handler: Handler) -> None:
    """`--check` called `start`, so it calls `stop`."""
    if "stop" in handler.hooks:
        with contextlib.suppress(Exception):
            handler.hooks["stop"]()


def _tell_failure(plan: Plan, error: BaseException | None, why: str, exit_code: int = FAILED_EXIT) -> int:
    is_ours = isinstance(error, PacelineError)
    text = "" if error is None or is_ours else user_traceback(error, str(plan.target))
    _send(plan, messages.Failed(why, text, exit_code))
    return FAILED_EXIT


def _send(plan: Plan, message: messages.Message) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone; the watcher finds out
        plan.control.send(messages.encode(message))
