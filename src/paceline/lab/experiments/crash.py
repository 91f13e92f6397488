"""What does a crash cost?  A real segfault among four witnesses: threads, processes, clients of a serving Paceline.

A witness answers whatever it is sent.  All are asked; then one of them is sent `crash`, and when its connection has
ended, all others are asked again: who answers lives.  With Paceline a witness is a client, and the crash happens in the
worker that serves it; new clients come all the time until a worker that was not there before answers one of them.
"""

import socket
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.peers import crash
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same
from paceline.lab.witnesses import answers, as_processes, as_threads, bear_witness, wait_for_the_end
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from contextlib import ExitStack

    from paceline.lab.starting import Serving

WITNESSES = 4
"""So many threads, processes, and clients of each worker."""
WORKERS = 2
SOON_MS = 1000.0
"""Predicted: a worker that has died is replaced within this time."""
PATIENCE_S = 10.0
PACE_S = 0.002
"""Between two clients of Paceline, so that its workers see of each other who has how many."""

THREADS, PROCESSES, WORKER = "threads", "processes", "worker"
NAMES = {
    THREADS: Text("in one of four threads of a process", "在一个进程的四个线程之一中"),
    PROCESSES: Text("in one of four processes", "在四个进程之一中"),
    WORKER: Text("in one of two workers of Paceline", "在 Paceline 的两个工作进程之一中"),
}


# Measuring


def measure(study: Study) -> None:
    import resource

    from paceline.lab.starting import paceline, serving

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # a crash is no news
    with serving(paceline(WORKERS, 16)) as server:
        for round_, case in study.rounds([THREADS, PROCESSES, WORKER], quick=8, full=40):
            if case == WORKER:
                study.note(case, round_, **_crash_a_worker(server))
            else:
                study.note(case, round_, **_crash_a_witness(as_threads if case == THREADS else as_processes))


def _crash_a_witness(start: Callable[[Sequence[socket.socket], list[int]], None]) -> dict[str, Any]:
    import os
    import signal
    from contextlib import ExitStack, suppress

    from paceline.clock import now

    with ExitStack() as stack:
        ours, theirs = [], []
        for _ in range(WITNESSES):
            one, other = socket.socketpair()
            ours.append(stack.enter_context(one))
            theirs.append(stack.enter_context(other))
            one.settimeout(PATIENCE_S)
        pids: list[int] = []
        statuses: list[int] = []
        try:
            start(theirs, pids)
            for line in theirs:
                line.close()
            before = answers(ours)
            begun_s = now()
            ours[0].sendall(b"crash")
            wait_for_the_end(ours[0])
            noticed_ms = (now() - begun_s) * 1e3
            after = answers(ours[1:])
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)  # not reaped yet, so it is still ours
                statuses.append(os.waitpid(pid, 0)[1])
        crashed = sum(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV for status in statuses)
        return {
            "before": before, "asked": len(ours) - 1, "answered": after, "processes": len(pids), "crashed": crashed,
            "noticed_ms": noticed_ms,
        }  # fmt: skip


def _crash_a_worker(server: "Serving") -> dict[str, Any]:
    from contextlib import ExitStack

    from paceline.clock import now

    with ExitStack() as stack:
        clients = _clients_of_all_workers(server, stack)
        (doomed, its), (other, others) = ((pid, lines[:WITNESSES]) for pid, lines in clients.items())
        begun_s = now()
        its[0].sendall(b"crash\n")
        wait_for_the_end(its[0])
        noticed_ms = (now() - begun_s) * 1e3
        beside = [_answerer(line) for line in others]
        came, served, replaced_ms = _clients_until_somebody_new_answers(server, stack, clients.keys(), begun_s)
        its_answered = sum(_answerer(line) is not None for line in its)
        return {
            "before": len(its) + len(others), "asked": len(others), "answered": sum(by == other for by in beside),
            "its": len(its), "its_answered": its_answered, "came": came, "served": served,
            "processes": len(clients), "crashed": int(doomed not in server.pids()), "noticed_ms": noticed_ms,
            "replaced_ms": replaced_ms,
        }  # fmt: skip


def _clients_of_all_workers(server: "Serving", stack: "ExitStack") -> dict[int, list[socket.socket]]:
    """Enough of each worker.  Raises HostError when one gets too few: later ones come more slowly."""
    from paceline.clock import sleep
    from paceline.errors import HostError

    clients: dict[int, list[socket.socket]] = {}
    for number in range(300):
        connection = stack.enter_context(server.connect(PATIENCE_S))
        by = _answerer(connection)
        if by is not None:
            clients.setdefault(by, []).append(connection)
        if len(clients) == WORKERS and min(map(len, clients.values())) >= WITNESSES:
            return clients
        sleep(PACE_S * (1 + number / 30))
    raise HostError(f"of 300 clients the workers have {[*map(len, clients.values())]}: too few for one of them")


def _answerer(line: socket.socket) -> int | None:
    """Which process answers; None: nobody, or not in time."""
    from paceline.lab.starting import ask

    try:
        return ask(line, b"quick")
    except OSError:
        return None


def _clients_until_somebody_new_answers(
    server: "Serving", stack: "ExitStack", known: Container[int], since_s: float
) -> tuple[int, int, float | None]:
    """How many came, how many of them were answered, and after how many ms by a process that was not there before."""
    from paceline.clock import now, sleep

    came, served = [], 0
    while now() - since_s < PATIENCE_S:
        came.append(stack.enter_context(server.connect(PATIENCE_S)))
        by = _answerer(came[-1])
        served += by is not None
        if by is not None and by not in known:
            return len(came), served, (now() - since_s) * 1e3
        if len(came) > 100:  # the last ones stay, so that it is the new one's turn
            came[-100].close()
        sleep(PACE_S)
    return len(came), served, None


# What the samples say


def share(samples: Samples, case: str, part: str, of: str) -> Spread | None:
    """In percent."""
    return Spread.of(100 * sample[part] / sample[of] for sample in samples.of(case) if sample.get(of))


def predict(_machine: Machine) -> Prediction:
    return Prediction(
        Text(
            "The kernel ends the process in which it happens, with all of its threads, and no other one: of the other "
            "threads none answers, of the other processes all do. A worker of Paceline takes its own clients along; "
            "all others are answered, new ones, too, and within {soon:,.0f} ms a new worker serves.",
            "内核结束出事的那个进程，连同它的全部线程，而不动别的进程：其他线程一个也不再应答，其他进程全部照常应答。"
            "Paceline 的一个工作进程会带走它自己的客户端；其余的客户端都得到应答，新来的也一样，"
            "并且 {soon:,.0f} 毫秒之内就有新的工作进程开始服务。",
        ).filled(soon=SOON_MS),
        {"answer after a thread %": 0.0, "answer after a process %": 100.0, "replaced within ms": SOON_MS},
    )


def judge(_machine: Machine, samples: Samples) -> Verdict:
    shares = {case: share(samples, case, "answered", "asked") for case in NAMES}
    threads, processes, beside = (shares[case] for case in NAMES)
    crashes = samples.of(WORKER)
    if threads is None or processes is None or beside is None:
        return Verdict.unknown()
    new = share(samples, WORKER, "served", "came")
    replaced = samples.spread(WORKER, "replaced_ms")
    never = sum(sample["replaced_ms"] is None for sample in crashes)
    own = sum(sample["its_answered"] for sample in crashes)
    is_soon = not never and replaced is not None and replaced.highest <= SOON_MS
    checks = [
        (threads.highest == 0 and own == 0, _SURVIVED),
        (processes.lowest == 100 and beside.lowest == 100, _TOO_MANY),
        (new is not None and new.lowest == 100, _NOT_SERVED),
        (is_soon, _LATE),
    ]
    reasons = [why for is_so, why in checks if not is_so]
    text = Text(
        "{how} here. Each crash ended one process: of those in a thread, {one} of {threads_of} processes and with it "
        "all its threads, of whose others {threads} answered; of those in a process, {many} of {processes_of}, and "
        "{processes} of the others answered. When a worker of Paceline crashed ({times} times), {own} of its {its} "
        "clients were still connected, {beside} of the other worker's were answered, by the same process as before, "
        "and {new} of the new ones.",
        "在这台机器上{how_zh}。每次崩溃结束一个进程：线程崩溃时，{threads_of} 个进程中结束了 {one} 个，"
        "连同它的全部线程，其余线程有 {threads} 作出应答；进程崩溃时，{processes_of} 个中结束了 {many} 个，"
        "其余进程有 {processes} 作出应答。Paceline 的工作进程崩溃了 {times} 次：它自己的 {its} 个客户端中还剩 "
        "{own} 个保持连接，另一个工作进程的客户端有 {beside} 由原来的进程应答，新来的有 {new} 得到应答。",
    ).filled(
        **how(not reasons),
        one=_sum(samples, THREADS, "crashed"), threads_of=_sum(samples, THREADS, "processes"),
        many=_sum(samples, PROCESSES, "crashed"), processes_of=_sum(samples, PROCESSES, "processes"),
        threads=_of(samples, THREADS, "answered", "asked"), processes=_of(samples, PROCESSES, "answered", "asked"),
        beside=_of(samples, WORKER, "answered", "asked"), new=_of(samples, WORKER, "served", "came"),
        times=len(crashes), own=own, its=_sum(samples, WORKER, "its"),
    )  # fmt: skip
    figures = {"answer after a thread %": threads.median, "answer after a process %": processes.median}
    if replaced is not None:
        after = _REPLACED_AFTER.filled(median=replaced.median, lowest=replaced.lowest, highest=replaced.highest)
        text = joined(text, after)
        figures["replaced after ms"] = replaced.median
    if never:
        text = joined(text, _NEVER.filled(never=never, patience=PATIENCE_S))
    return Verdict(not reasons, joined(text, *reasons), figures)


_REPLACED_AFTER = Text(
    "A worker that was not there before answered after {median:,.0f} ms ({lowest:,.0f} … {highest:,.0f}).",
    "{median:,.0f} 毫秒（{lowest:,.0f} … {highest:,.0f}）之后，新的工作进程给出了应答。",
)
_NEVER = Text(
    "In {never} cases none had answered after {patience:g} s.",
    "有 {never} 次，{patience:g} 秒之后仍没有新的工作进程应答。",
)
_SURVIVED = Text(
    "That anybody of the same process answered after the crash must not be: please report it, with this page.",
    "崩溃之后同一进程中还有人应答，这是不应该发生的：请附上本页报告这个问题。",
)
_TOO_MANY = Text(
    "Somebody of another process did not answer within {patience:g} s: it may have been ended by something else, as "
    "when memory runs out, or the machine was very busy.",
    "另一个进程中有人在 {patience:g} 秒内没有应答：它可能因别的原因结束（例如内存耗尽），也可能机器非常繁忙。",
).filled(patience=PATIENCE_S)
_NOT_SERVED = Text(
    "Some of the new clients were not answered: each had waited {patience:g} s, or its connection was ended.",
    "有些新客户端没有得到应答：要么等了 {patience:g} 秒，要么连接被断开。",
).filled(patience=PATIENCE_S)
_LATE = Text(
    "A new worker took longer than {soon:,.0f} ms: the kernel may have been slow to start it where others want the "
    "cores.",
    "新的工作进程用了 {soon:,.0f} 毫秒以上：别的程序也在争用核时，内核启动它可能较慢。",
).filled(soon=SOON_MS)


def _sum(samples: Samples, case: str, quantity: str) -> int:
    return sum(sample[quantity] for sample in samples.of(case))


def _of(samples: Samples, case: str, part: str, of: str) -> str:
    """Of all rounds together: `0/24`."""
    return f"{_sum(samples, case, part):,}/{_sum(samples, case, of):,}"


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    if not samples:
        return []
    bars = [
        Bar(name, share(samples, case, part, of), int(case == WORKER))
        for name, case, part, of in _WHO
        if samples.of(case)
    ]
    noticed = [Bar(name, samples.spread(case, "noticed_ms")) for case, name in NAMES.items()]
    noticed.append(Bar(_REPLACED, samples.spread(WORKER, "replaced_ms"), group=1))
    groups = (Text("until the others see that it has ended", "到别人看到它已结束"), _REPLACED)
    return [
        Bars(
            Text("Who answers after the crash", "崩溃之后谁还应答"),
            Axis(Text("of those who were asked", "占被询问者的比例"), "%"),
            bars,
            (Text("without a server", "没有服务器"), Text("clients of Paceline", "Paceline 的客户端")),
        ),
        Bars(
            Text("How long it takes", "要用多长时间"),
            Axis(Text("after the crash", "崩溃之后"), "ms", is_log=True),
            noticed,
            groups,
        ),
    ]


_WHO = [
    (Text("the other threads of its process", "同一进程的其他线程"), THREADS, "answered", "asked"),
    (Text("the other processes", "其他进程"), PROCESSES, "answered", "asked"),
    (Text("clients of the worker that crashed", "崩溃的工作进程的客户端"), WORKER, "its_answered", "its"),
    (Text("clients of the other worker", "另一个工作进程的客户端"), WORKER, "answered", "asked"),
    (Text("clients who came afterwards", "之后新来的客户端"), WORKER, "served", "came"),
]
_REPLACED = Text("until a new worker answers", "到新的工作进程应答")


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("crash", "崩溃发生在"),
        Text("processes that ended", "结束的进程"),
        Text("others who answer", "仍应答的其他人"),
        Text("noticed after, ms", "察觉用时，毫秒"),
        Text("replaced after, ms", "替换用时，毫秒"),
        Text("times", "次数"),
    ]
    rows = []
    for case, name in NAMES.items():
        noticed, replaced = samples.spread(case, "noticed_ms"), samples.spread(case, "replaced_ms")
        if noticed is not None:
            rows.append([
                name, same(_of(samples, case, "crashed", "processes")),
                same(_of(samples, case, "answered", "asked")), same(noticed.text(2)),
                same(replaced.text(0) if replaced else "–"), same(f"{noticed.count}"),
            ])  # fmt: skip
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="crash",
    question=Text("What does a crash cost?", "一次崩溃的代价是什么？"),
    explains=Text(
        "An exception ends a call; a segmentation fault ends a process. Here it is real: something reads at address "
        "0, where no memory is, the processor refuses, and the kernel sends the process SIGSEGV, which no `try` "
        "catches. Four witnesses answer whatever they are asked; one of them crashes, and the others are asked again. "
        "First the four are threads of one process, then four processes. The third time they are clients of a "
        "Paceline server with two workers, of which one crashes: its clients lose their connections, since these were "
        "open in that process; what of the others, and how soon is there a worker again?",
        "异常只结束一次调用，段错误则结束整个进程。这里的段错误是真的：有代码去读地址 0，那里没有内存，处理器拒绝，"
        "内核向进程发送 SIGSEGV，任何 `try` 都接不住它。四个证人有问必答；其中一个崩溃，然后再问其余三个。"
        "先让四个证人是同一进程的四个线程，再让它们是四个进程。第三次，证人是一个 Paceline 服务器的客户端，"
        "服务器有两个工作进程，其中一个崩溃：它的客户端失去连接，因为连接就开在那个进程里；"
        "其他客户端怎么样？多久之后又有新的工作进程？",
    ),
    shown=(crash, bear_witness, as_threads, as_processes, answers),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=1.5,
    full_s=4.0,
)
