"""What does it cost to create a process, a thread, a sub-interpreter, and to use one that is already there?"""

import sys
from collections.abc import Callable, Sequence

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text

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

    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)


def make_interpreter() -> None:
    """Make a sub-interpreter, and destroy it.  Raises ImportError where this Python has none for us."""
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
            except ImportError:
                continue  # this Python has none
            study.note(case, round_, took_us=took)


def predict(_machine: Machine) -> Prediction:
    return Prediction(
        Text(
            "A thread needs a stack and an entry in the kernel's table, a process by fork also a copy of the page "
            "tables, a new Python also all that an interpreter does at its start: each step costs at least 3 times "
            "the one before. Whoever is already there costs least: that is why servers keep pools.",
            "线程只需要一个栈和内核表中的一项；fork 出的进程还要复制页表；全新的 Python 还要做解释器启动时的一切。"
            "每一步的开销至少是前一步的 3 倍。已经存在的最便宜：服务器因此使用池。",
        ),
        {"at least": 3.0},
    )


def judge(_machine: Machine, samples: Samples) -> Verdict:
    found = {case: samples.spread(case, "took_us") for case in NAMES}
    pool, thread, fork, spawn = (found[case] for case in ("pool", "thread", "fork", "spawn"))
    if pool is None or thread is None or fork is None or spawn is None:
        return Verdict.unknown()
    by_fork, by_spawn, by_pool = fork.median / thread.median, spawn.median / fork.median, thread.median / pool.median
    held = by_fork >= 3 and by_spawn >= 3
    text = Text(
        "{how} here: a thread took {thread:,.0f} µs, a process by fork {fork:,.0f} µs ({by_fork:.1f} ×), a new Python "
        "{spawn:,.0f} µs ({by_spawn:.1f} × of that). Work for a thread of a pool took {pool:,.0f} µs.",
        "在这台机器上{how_zh}：线程 {thread:,.0f} 微秒，fork 进程 {fork:,.0f} 微秒（{by_fork:.1f} 倍），全新的 Python "
        "{spawn:,.0f} 微秒（又是它的 {by_spawn:.1f} 倍）。交给线程池中的线程只要 {pool:,.0f} 微秒。",
    ).filled(
        **how(held),
        thread=thread.median, fork=fork.median, spawn=spawn.median, pool=pool.median,
        by_fork=by_fork, by_spawn=by_spawn,
    )  # fmt: skip
    return Verdict(held, text, {"fork ÷ thread": by_fork, "spawn ÷ fork": by_spawn, "thread ÷ pool": by_pool})


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    bars = [
        Bar(NAMES[case], samples.spread(case, "took_us"), note=None if samples.of(case) else _MISSING) for case in NAMES
    ]
    axis = Axis(Text("time to make one and wait for its end", "创建一个并等它结束的时间"), "µs", is_log=True)
    return [Bars(Text("What it costs to create", "创建的开销"), axis, bars)]


_MISSING = Text("this Python has none", "这个 Python 没有")


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [Text("what", "对象"), Text("µs: median (lowest … highest)", "微秒：中位数（最小 … 最大）")]
    columns.append(Text("times", "次数"))
    rows = []
    for case, name in NAMES.items():
        spread = samples.spread(case, "took_us")
        if spread is not None:
            rows.append([name, Text(spread.text(1), spread.text(1)), Text(f"{spread.count}", f"{spread.count}")])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="creation",
    question=Text("What does it cost to create one?", "创建一个要花多少代价？"),
    explains=Text(
        "Before work can be done at the same time, somebody must be made who does it: a thread in this process, "
        "another process, or a whole new Python. Here each is made and ended many times, and the clock is read before "
        "and after.",
        "要让工作同时进行，先要有人来做：本进程里的一个线程、另一个进程，或者一个全新的 Python。"
        "这里把每一种都创建并结束许多次，前后各看一次时钟。",
    ),
    shown=(make_thread, make_process, make_new_python, make_interpreter),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=2.0,
    full_s=15.0,
)
