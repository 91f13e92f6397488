"""A worker's life as a process: from the fork to its last word.

`main` runs in the child, on its only thread, with all signals blocked; supervisor/child.py has closed what is not ours.

    the log, the prints   →   the user's import, on this thread   →   construction and `start`
    →   signals as we want them   →   the first thread   →   the probe   →   Ready   →   the watcher's loop
    →   `stop`   →   Leaving

User code runs on the main thread only before Ready and after the drain.  What it changed meanwhile that we depend on
(signal handlers and mask, SIGPIPE, faulthandler, the switch interval) is set again after the import.

Signals are unblocked as soon as they have their handlers: threads and processes that the user's code starts inherit the
mask, and a process with everything blocked could not even be terminated.
"""

import atexit
import contextlib
import dataclasses
import faulthandler
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, NoReturn

import paceline
from paceline import clock
from paceline.errors import HostError, PacelineError, TargetError
from paceline.handlers import Handler, examine
from paceline.host import processes, signals
from paceline.host.output import Log, redirect_prints
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.settings import Settings
from paceline.settings.secrecy import PASSWORD_VARIABLE
from paceline.wire import Framing, Raw, as_framing, describe
from paceline.worker import last_resort, messages
from paceline.worker.assembly import assemble
from paceline.worker.calls import contained
from paceline.worker.gate import Shut
from paceline.worker.overdue import limit_of
from paceline.worker.plan import Plan
from paceline.worker.target import current_directory, load_target, see_every_edit, user_traceback
from paceline.worker.watcher import GRACE_S, Watcher
from paceline.worker.worker import Worker

if TYPE_CHECKING:
    from paceline.host.certificates import Certificates

BUG_EXIT, FAILED_EXIT, CUT_EXIT = 1, 3, 4

_UNHEARD = (
    signal.SIGINT,  # Ctrl-C reaches the whole group; the supervisor decides
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Have a handler that does nothing.  Ignored, they would be ignored in the programs that a handler starts, too."""

_IGNORED = (
    signal.SIGTTIN,  # with a handler, reading and writing at the terminal would be tried again for ever
    signal.SIGTTOU,
    signal.SIGTSTP,
    signal.SIGPIPE,  # a write to a peer that is gone is an exception; subprocess resets it in its children
)

_OURS = (os.path.join(os.path.dirname(paceline.__file__), ""), "<frozen importlib")
"""How the file names of frames begin that are not the user's."""


def main(plan: Plan) -> NoReturn:
    """Be the worker that `plan` describes.  Never returns.  Exit codes: 0, 1 our bug, 3 no start, 4 calls were cut."""
    code = BUG_EXIT
    try:
        code = _live(plan)
    except BaseException as error:  # noqa: BLE001 - a bug of ours; os._exit below must not hide it
        report = "".join(traceback.format_exception(error))
        sys.stderr.write(report)
        _send(plan, messages.Failed(f"a bug in Paceline: {type(error).__name__}", report, BUG_EXIT))
    finally:
        os._exit(code)


def _live(plan: Plan) -> int:
    settings = plan.settings
    log = Log(f"worker {plan.slot}", settings.log_format)
    last_resort.begin(settings, plan.fault_fd)
    wake_read, wake_write = signals.open_wakeup_pipe()
    _take_signals(plan, wake_write)
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
    forks = _Forks(plan)
    try:
        certificates = certificates_of(settings, os.environ)
    except HostError as error:
        return _tell_failure(plan, error, str(error))
    try:
        handler, framing = load(plan)
    except PacelineError as error:
        return _tell_failure(plan, error, str(error), exit_code=error.exit_code)
    except BaseException as error:  # noqa: BLE001 - the user's code, whatever it raises
        return _tell_failure(plan, error, f"{plan.target} raised {type(error).__name__} while it was loaded")
    if "start" in handler.hooks:
        try:
            handler.hooks["start"]()
        except BaseException as error:  # noqa: BLE001
            return _tell_failure(plan, error, f"{handler.name}.start() raised {type(error).__name__}")
    if forks.is_child:
        log.say("forked-child-returned")
        return BUG_EXIT
    ready = messages.Ready(handler.kind, describe(framing), handler.name)
    if plan.check:
        _send(plan, ready)
        contained_quietly(handler)
        return 0
    # Whatever the import has done to them.
    _take_signals(plan, wake_write)
    sys.setswitchinterval(settings.switch_interval)
    parts = assemble(plan, log, handler, framing, wake_read, certificates)
    worker, watcher = parts.worker, parts.watcher
    forks.worker = worker
    try:
        is_up = parts.start()
    except RuntimeError as error:  # what CPython makes of EAGAIN of clone(2)
        why = f"no thread can be made ({error}); see the limits on processes and memory (ulimit -u, pids.max)"
        return _tell_failure(plan, HostError(why), why)
    if not is_up:
        return _tell_failure(plan, None, f"{handler.name}.thread_start() raised; the log above says what")
    if plan.probe and settings.probe is not None:
        from paceline.worker import probe

        unanswered = probe.ask(plan, parts, handler.name)
        if unanswered is not None:
            _send(plan, unanswered)
            return FAILED_EXIT
    processes.die_with_parent(plan.supervisor_pid, signal.SIGTERM)  # until now it was SIGKILL (supervisor/child.py)
    watcher.rearm_dead_man()  # until now it was the boot time's
    worker.gauge("heartbeat_ns", clock.now_ns())
    if plan.standby:
        worker.gate.shut(Shut.STANDBY)
    worker.gauge("state", WorkerState.STANDBY if plan.standby else WorkerState.READY)
    _send(plan, dataclasses.replace(ready, rss_bytes=processes.resident_bytes(os.getpid())))
    worker.gate.open(Shut.STARTING)
    cut = watcher.run()
    return _leave(plan, worker, watcher, cut)


def _take_signals(plan: Plan, wake_fd: int) -> None:
    signals.ignore(*_IGNORED)
    signals.deliver_to_wakeup(signal.SIGTERM, *_UNHEARD)
    signals.reset(signal.SIGCHLD)
    signals.install_wakeup_fd(wake_fd)
    faulthandler.enable(plan.fault_fd, all_threads=True)
    faulthandler.unregister(signals.STACKS)  # else it would not notice that the user's code has replaced its handler
    faulthandler.register(signals.STACKS, plan.fault_fd, all_threads=True)
    signals.unblock_all()


def load(plan: Plan) -> tuple[Handler, Framing]:
    """The handler and the framing that `plan` names.  Raises TargetError, SettingError, and what the import raises."""
    settings = plan.settings
    if isinstance(plan.target, str):
        name = plan.target
        see_every_edit()
        found = load_target(name)
    else:
        found = plan.target
        name = getattr(found, "__qualname__", type(found).__qualname__)
    handler = examine(found, name, settings.as_)
    limit_of(settings, handler)  # what is wrong with it is found before anything is served
    if handler.holds:
        if settings.framing is not None:
            raise TargetError(
                f"{name} is a {handler.kind} handler, which reads the bytes itself: --framing {settings.framing} has "
                f"no meaning for it; leave it out, or serve a message handler"
            )
        return handler, Raw(limit=settings.max_message)
    if settings.start is not None:
        raise TargetError(
            f"{name} is a message handler, whose thread is spent when a message has arrived: --start {settings.start} "
            f"has no meaning for it; leave it out, or serve a connection handler"
        )
    marked = settings.framing if settings.framing is not None else handler.marks.framing
    of = name if settings.framing is None else None
    return handler, as_framing(marked if marked is not None else "raw", settings.max_message, of)


def certificates_of(settings: Settings, environment: MutableMapping[str, str]) -> "Certificates | None":
    """Those of TLS, before anything of the user's runs; OpenSSL is loaded only for them.  Raises HostError.

    The password is taken out of the environment: programs that a handler starts have no use for it.
    """
    password = environment.pop(PASSWORD_VARIABLE, None)
    if settings.tls_cert is None:
        return None
    from paceline.worker import securing

    return securing.certificates_of(settings, password, current_directory())


class _Forks:
    """The user's code may fork, from the import on: its child keeps nothing of ours open, and never serves.

    The three are called around each fork, by the thread that forks (not around what subprocess does).  Signals wait
    meanwhile: one to the newborn would run our handler there, which writes to the pipe that it shares with its parent.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.worker: Worker | None = None  # set once, when there is one
        self.is_child = False
        self.of_thread = threading.local()
        os.register_at_fork(
            before=self.before, after_in_parent=self.after_in_parent, after_in_child=self.after_in_child
        )

    def before(self) -> None:
        self.of_thread.blocked = signals.blocked()
        self.of_thread.blocked.__enter__()

    def after_in_parent(self) -> None:
        self.of_thread.blocked.__exit__(None, None, None)

    def after_in_child(self) -> None:
        try:
            self.let_go()
        finally:
            self.of_thread.blocked.__exit__(None, None, None)

    def let_go(self) -> None:
        """In the child: of everything that is not its own."""
        plan = self.plan
        self.is_child = True
        if self.worker is not None:
            self.worker.on_forked_child()
        for listener in plan.listeners:
            listener.socket.close()
        for inbox in plan.inboxes:
            inbox.writer.close()
            inbox.reader.close()
        plan.control.close()
        # The dead man's timer is a thread, which a fork does not copy; cancelling would wait for it for ever.
        signals.install_wakeup_fd(-1)
        signals.reset(signal.SIGTERM, *_UNHEARD)  # a process of multiprocessing is ended by them, as any other


def _leave(plan: Plan, worker: Worker, watcher: Watcher, cut: int) -> int:
    """The threads' stop hooks, the worker's, the last word.

    When calls were cut, time is up: the last word comes first, for what follows may take longer than we have.
    """
    if cut:
        _send(plan, messages.Leaving(cut))
    else:
        if watcher.stop_threads(clock.now() + GRACE_S):
            say_farewell(worker)
    contained(worker, "stop", worker.hook("stop"))
    with contextlib.suppress(BaseException):
        # os._exit skips them, and coverage tools, profilers and reporters rely on them.
        atexit._run_exitfuncs()
    words, row = worker.words, worker.row
    words[row + WORKER["state"]] = WorkerState.GONE
    words[row + WORKER["logs_dropped"]] = worker.log.dropped
    worker.log.say("drained")
    if not cut:
        _send(plan, messages.Leaving(0))
    return CUT_EXIT if cut else 0


def say_farewell(worker: Worker) -> None:
    """`disconnected`, for connections whose peers had not ended them when the time was up."""
    disconnected = worker.hook("disconnected")
    for connection in list(worker.tables.open.values()):
        if disconnected is not None and connection.greeted:
            connection.greeted = False
            contained(worker, "disconnected", functools.partial(disconnected, connection))


def contained_quietly(handler: Handler) -> None:
    """`--check` called `start`, so it calls `stop`."""
    if "stop" in handler.hooks:
        with contextlib.suppress(BaseException):
            handler.hooks["stop"]()


def _tell_failure(plan: Plan, error: BaseException | None, why: str, exit_code: int = FAILED_EXIT) -> int:
    """Say why there will be no worker.  An error that says all by itself comes without its traceback."""
    is_complete = error is None or (isinstance(error, PacelineError) and not _is_of_the_user(error))
    text = "" if error is None or is_complete else user_traceback(error, str(plan.target))
    _send(plan, messages.Failed(why, text, exit_code))
    return FAILED_EXIT


def _is_of_the_user(error: BaseException) -> bool:
    """The user's code had a part in it: `Lines(limit=0)` in a module is found by its line, not by its text."""
    return any(
        not frame.f_code.co_filename.startswith(_OURS) for frame, _line in traceback.walk_tb(error.__traceback__)
    )


def _send(plan: Plan, message: messages.Message) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone; the watcher finds out
        plan.control.send(messages.encode(message))
