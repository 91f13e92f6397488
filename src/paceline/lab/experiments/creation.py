"""What does it cost to create a process, a thread, a sub-interpreter, and to use one that is already there?

Each is made and ended, one after the other; how long each took is kept, so that there is a distribution to look at.
"""

from collections.abc import Callable, Sequence
from math import ceil

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Bar, Bars, Lines, Plot, Series
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

DEARER = 3.0
EACH = 20
"""So many are made in a row for each sample."""

NAMES = {
    "pool": Text("a thread of a pool that is there", "线程池中已有的线程"),
    "thread": Text("thread", "线程"),
    "interpreter": Text("sub-interpreter", "子解释器"),
    "fork": Text("process, fork", "进程（fork）"),
    "spawn": Text("process, a new Python", "进程（全新的 Python）"),
}


def make_thread() -> None:
    """Make a thread that does nothing, and wait for its end."""
    import threading

    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def make_process() -> None:
    """Make a process by fork that does nothing, and wait for its end."""
    import os

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def make_new_python() -> None:
    """Start another Python that does nothing, and wait for its end."""
    import subprocess

    from paceline.lab.machine import fresh_python

    subprocess.run([*fresh_python(), "-c", ""], check=True)


def make_interpreter() -> None:
    """Make a sub-interpreter, and destroy it.  Raises ImportError where this Python has none for us."""
    import sys
    from importlib import import_module

    interpreters = import_module("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    interpreters.destroy(interpreters.create())


def measure(study: Study) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from paceline.clock import now_ns

    with ThreadPoolExecutor(1) as pool:
        ways: dict[str, tuple[Callable[[], object], int]] = {
            "pool": (lambda: pool.submit(int).result(), EACH),
            "thread": (make_thread, EACH),
            "interpreter": (make_interpreter, 2),
            "fork": (make_process, 5),
            "spawn": (make_new_python, 1),
        }
        for round_, case in study.rounds(ways, quick=10, full=60):
            make, count = ways[case]
            took = []
            try:
                for _ in range(count):
                    begun = now_ns()
                    make()
                    took.append((now_ns() - begun) / 1e3)
            except (ImportError, RuntimeError):  # _interpreters raises its own errors, which are RuntimeErrors
                continue  # this Python has none, or cannot make one
            study.note(case, round_, took_us=took)


def predict(_machine: Machine) -> Prediction:
    return Prediction(
        Text(
            "A thread needs a stack and an entry in the kernel's table, a process by fork also a copy of the page "
            "tables, a new Python also all that an interpreter does at its start: each step costs at least {dearer:g} "
            "times the one before. Whoever is already there, a thread of a pool, costs less than a new one: that is "
            "why servers keep pools. What a sub-interpreter costs is not predicted.",
            "线程只需要一个栈和内核表中的一项；fork 出的进程还要复制页表；全新的 Python 还要做解释器启动时的一切。"
            "每一步的开销至少是前一步的 {dearer:g} 倍。已经存在的（线程池中的线程）比新创建的便宜：服务器因此使用池。"
            "子解释器的开销不作预测。",
        ).filled(dearer=DEARER),
        {"at least": DEARER},
    )


def judge(_machine: Machine, samples: Samples) -> Verdict:
    found = {case: samples.spread(case, "took_us") for case in NAMES}
    pool, thread, fork, spawn = (found[case] for case in ("pool", "thread", "fork", "spawn"))
    if pool is None or thread is None or fork is None or spawn is None:
        return Verdict.unknown()
    by_fork, by_spawn, by_pool = fork.median / thread.median, spawn.median / fork.median, thread.median / pool.median
    held = by_fork >= DEARER and by_spawn >= DEARER and by_pool > 1
    text = Text(
        "{how} here: a thread took {thread:,.0f} µs, a process by fork {fork:,.0f} µs ({by_fork} ×), a new Python "
        "{spawn:,.0f} µs ({by_spawn} × of that). Work for a thread of a pool took {pool:,.0f} µs, {by_pool} of what a "
        "new thread takes.",
        "在这台机器上{how_zh}：线程 {thread:,.0f} 微秒，fork 进程 {fork:,.0f} 微秒（{by_fork} 倍），全新的 Python "
        "{spawn:,.0f} 微秒（又是它的 {by_spawn} 倍）。交给线程池中的线程用了 {pool:,.0f} 微秒，"
        "是新建线程的 {by_pool}。",
    ).filled(
        **how(held), thread=thread.median, fork=fork.median, spawn=spawn.median, pool=pool.median,
        by_fork=telling(by_fork, DEARER, 1), by_spawn=telling(by_spawn, DEARER, 1), by_pool=f"{1 / by_pool:.0%}",
    )  # fmt: skip
    if (interpreter := found["interpreter"]) is not None:
        text = joined(
            text,
            Text(
                "A sub-interpreter took {took:,.0f} µs, {by_thread:.0f} × a thread.",
                "子解释器 {took:,.0f} 微秒，是线程的 {by_thread:.0f} 倍。",
            ).filled(took=interpreter.median, by_thread=interpreter.median / thread.median),
        )
    if by_fork < DEARER or by_spawn < DEARER:
        text = joined(text, _NOT_DEARER)
    if by_pool <= 1:
        text = joined(text, _POOL_NOT_CHEAPER)
    return Verdict(held, text, {"fork ÷ thread": by_fork, "spawn ÷ fork": by_spawn, "thread ÷ pool": by_pool})


_NOT_DEARER = Text(
    "The steps are smaller than predicted: look at the distributions. Where other programs want the cores, all of them "
    "wait alike, and where the machine starts processes fast, the next step is nearer.",
    "各步之间的差距比预测的小：请看分布图。别的程序也在争用核时，各种方式都同样要等；"
    "而启动进程很快的机器上，后一步与前一步更接近。",
)
_POOL_NOT_CHEAPER = Text(
    "The thread of the pool has to be woken, as a new one has: that may take the most of it here.",
    "线程池中的线程也要先被唤醒，与新线程一样：在这里，时间可能大部分花在这上面。",
)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    bars = [
        Bar(NAMES[case], samples.spread(case, "took_us"), note=None if samples.of(case) else _MISSING) for case in NAMES
    ]
    axis = Axis(Text("time to make one and wait for its end", "创建一个并等它结束的时间"), "µs", is_log=True)
    steps = [
        Series(NAMES[case], [(at, Spread.exactly(share)) for at, share in distribution(values)])
        for case in NAMES
        if (values := samples.values(case, "took_us"))
    ]
    share = Axis(Text("of all that were made took no longer", "所用时间不超过它的比例"), "%")
    plots: list[Plot] = [Bars(Text("What it costs to create", "创建的开销"), axis, bars)]
    if steps:
        plots.append(Lines(Text("Not always the same: distributions", "并非每次相同：分布"), axis, share, steps))
    return plots


_MISSING = Text("this Python has none", "这个 Python 没有")


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """(so long, percent of them took no longer), for 5, 10 … 100 %."""
    ordered = sorted(values)
    return [(ordered[max(0, ceil(len(ordered) * percent / 100) - 1)], percent) for percent in range(5, 101, 5)]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("what", "对象"), Text("µs: median (lowest … highest)", "微秒：中位数（最小 … 最大）"),
        Text("95% at most, µs", "95% 不超过，微秒"), Text("× a thread", "线程的倍数"),
    ]  # fmt: skip
    thread = samples.spread("thread", "took_us")
    rows = []
    for case, name in NAMES.items():
        spread = samples.spread(case, "took_us")
        if spread is not None:
            most = next(at for at, percent in distribution(samples.values(case, "took_us")) if percent == 95)
            by_thread = f"{spread.median / thread.median:.1f}" if thread else ""
            cells = [spread.text(1), f"{most:,.1f}", by_thread]
            rows.append([name, *map(same, cells)])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="creation",
    question=Text(
        "What does it cost to create a process, a thread, an interpreter?", "创建进程、线程、解释器的开销各有多大？"
    ),
    explains=Text(
        "Before work can be done at the same time, somebody must be made who does it: a thread in this process, "
        "another process, another interpreter in this one, or a whole new Python. Here each is made and ended many "
        "times, and the clock is read before and after. The new Python imports nothing (in experiment 3 it imports "
        "the program that started it, too, and so takes longer).",
        "要让工作同时进行，先要有人来做：本进程里的一个线程、另一个进程、本进程里的另一个解释器，"
        "或者一个全新的 Python。"
        "这里把每一种都创建并结束许多次，前后各看一次时钟。"
        "这里的新 Python 什么也不导入（实验 3 里的还要导入启动它的程序，所以更慢）。",
    ),
    shown=(make_thread, make_process, make_new_python, make_interpreter),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=1.0,
    full_s=3.0,
)
