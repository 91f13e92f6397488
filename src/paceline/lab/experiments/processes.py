"""What is a process?  Memory of its own, a number of its own, and a life beside its parent's.

Three ways to start one, by the contexts of multiprocessing: fork copies the process that asks; spawn starts a new
Python, which imports what it needs; forkserver asks a small process, spawned once, to fork.  A child says when its
first line ran, and stays until its memory has been read from /proc/PID/smaps_rollup (proc_pid_smaps(5)): pages that
several processes share count to each of them in part (PSS, proportional set size), and those of nobody else in full.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.memory import memory_of
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

OWN, BESIDE = "own memory", "beside"
WAYS = ("fork", "forkserver", "spawn")

NAMES = {
    "fork": Text("fork: a copy of this process", "fork：复制本进程"),
    "forkserver": Text("forkserver: a copy of a small one", "forkserver：复制一个小进程"),
    "spawn": Text("spawn: a new Python", "spawn：全新的 Python"),
}

DEARER = 3.0
PACE, SHARED_PACE = (0.8, 1.25), (0.35, 0.7)
"""What the parent counts beside its child, of what it counts alone: from … to, with more cores than one; with one."""

number = 1
"""The global that a child changes."""


def change_the_global() -> list[int]:
    """In a child by fork: change a global, and say where the globals lie, and what it is now."""
    import os

    global number
    number += 41
    return [os.getpid(), os.getppid(), id(globals()), number]


def say_hello(to_parent: "Connection") -> None:
    """In a child: say when its first line ran, and stay until the parent has a look at its memory."""
    import os

    from paceline.clock import now_ns

    to_parent.send((now_ns(), os.getpid(), os.getppid()))
    to_parent.recv()


def start_one(way: str) -> dict[str, Any]:
    """Start a process by fork, forkserver or spawn: after how long it ran its first line, and its memory."""
    import multiprocessing

    from paceline.clock import now_ns
    from paceline.errors import HostError

    context: Any = multiprocessing.get_context(way)
    ours, its = context.Pipe()
    process = context.Process(target=say_hello, args=(its,), daemon=True)
    begun_ns = now_ns()
    try:
        process.start()
        its.close()
        if not ours.poll(30):
            raise HostError(f"{way}: the process had not said a word after 30 s")
        at_ns, pid, parent_pid = ours.recv()
        found = {"took_ms": (at_ns - begun_ns) / 1e6, "pid": pid, "parent_pid": parent_pid, **memory_of(pid)}
        ours.send("you may go")
        process.join(30)
        return found
    finally:
        if process.ident is not None:
            process.kill()
            process.join()
        process.close()
        ours.close()
        its.close()


def count_for(seconds: float) -> int:
    """How far we count in that time."""
    from paceline.clock import now

    until_s, count = now() + seconds, 0
    while now() < until_s:
        count += 1
    return count


def measure(study: Study) -> None:
    import multiprocessing

    count = 5 if study.quick else 20
    study.part(0.0, 0.1)
    measure_own_memory(study, count)
    study.part(0.1, 0.3)
    measure_beside(study)
    study.part(0.3, 1.0)
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    try:
        study.note("forkserver, with its server", 1, **start_one("forkserver"))
        for round_, way in study.rounds(WAYS, quick=6, full=40):
            study.note(way, round_, **start_one(way))
    finally:
        end_what_multiprocessing_started()


def measure_own_memory(study: Study, count: int) -> None:
    import os

    from paceline.lab.children import Children

    for round_, case in study.rounds([OWN], quick=count, full=count, warm_up=False):
        before, place = number, id(globals())
        with Children([change_the_global]) as children:
            [(pid, its_parent, its_place, its_number)] = children.answers(within_s=30)
        study.note(
            case,
            round_,
            parent_pid=os.getpid(),
            child_pid=pid,
            parent_of_child_pid=its_parent,
            before=before,
            in_child=its_number,
            in_parent_after=number,
            same_place=place == its_place,
        )


def measure_beside(study: Study) -> None:
    from paceline.lab.children import Children

    seconds = 0.1 if study.quick else 0.3
    for round_, case in study.rounds([BESIDE], quick=4, full=10):
        is_first = study.chance.random() < 0.5
        alone = count_for(seconds) if is_first else 0
        with Children([lambda: count_for(seconds)]) as children:
            beside = count_for(seconds)
            [by_child] = children.answers(within_s=30)
        alone = alone or count_for(seconds)
        study.note(case, round_, alone=alone, beside=beside, by_child=by_child, share=beside / alone)


def end_what_multiprocessing_started() -> None:
    """The server that forks, and the tracker of resources, which otherwise end only some time after this process."""
    from multiprocessing import forkserver, resource_tracker

    for part in (forkserver.__dict__["_forkserver"], resource_tracker.__dict__["_resource_tracker"]):
        stop = getattr(part, "_stop", None)
        if stop is not None:
            stop()


# Prediction and verdict


def predict(machine: Machine) -> Prediction:
    low, high = pace_of(machine)
    goes_on = (
        Text(
            "counts on at its full pace on another core ({low:.0%} or more)",
            "在另一个核上照常全速计数（不低于 {low:.0%}）",
        )
        if machine.cores > 1
        else Text(
            "counts on at half its pace ({low:.0%} to {high:.0%}): they share one core",
            "与它共用一个核，以一半的速度继续计数（{low:.0%} 到 {high:.0%}）",
        )
    ).filled(low=low, high=high)
    return Prediction(
        joined(
            Text(
                "What a child changes, its parent does not see: the same name, at the same address, but in another "
                "memory. A copy, by fork or by a server that forks, costs little; a new Python at least 3 times as "
                "much.",
                "子进程改动的东西，父进程看不到：名字相同、地址也相同，却在另一份内存里。"
                "复制（无论自己 fork，还是请服务器 fork）开销不大；启动全新的 Python 的开销至少是复制的 3 倍。",
            ),
            Text("While its child works, the parent {en}.", "子进程工作时，父进程{zh}。").filled(
                en=goes_on.en, zh=goes_on.zh
            ),
        ),
        {"seen by the parent": 0.0, "spawn ÷ a copy": DEARER, "share of its pace": 1.0 if machine.cores > 1 else 0.5},
    )


def pace_of(machine: Machine) -> tuple[float, float]:
    """From … to, the share of its pace that the parent keeps."""
    return PACE if machine.cores > 1 else SHARED_PACE


def judge(machine: Machine, samples: Samples) -> Verdict:
    facts, goes_on = samples.of(OWN), samples.spread(BESIDE, "share")
    fork, server, spawn = (samples.spread(way, "took_ms") for way in WAYS)
    if not facts or goes_on is None or fork is None or server is None or spawn is None:
        return Verdict.unknown()
    seen = sum(fact["in_parent_after"] != fact["before"] for fact in facts)
    dearer = spawn.median / max(fork.median, server.median)
    low, high = pace_of(machine)
    is_going_on = low <= goes_on.median <= high
    held = not seen and dearer >= DEARER and is_going_on
    text = Text(
        "{how} here: a child (process {child_pid}) made {before} into {in_child}, and in its parent (process "
        "{parent_pid}), at {place} address, it was still {before} in {kept} of {count} cases. The first line ran "
        "{fork:.1f} ms after fork, {server:.1f} ms after asking the server, {spawn:.1f} ms after spawn ({dearer} times "
        "the dearer copy). While its child worked, the parent kept {share}% of its pace.",
        "在这台机器上{how_zh}：子进程（{child_pid} 号）把 {before} 改成了 {in_child}，"
        "而父进程（{parent_pid} 号）里，在{place_zh}的地址上，{count} 次中有 {kept} 次仍是 {before}。"
        "第一行代码开始运行：fork 后 {fork:.1f} 毫秒，请服务器 fork 后 {server:.1f} 毫秒，spawn 后 {spawn:.1f} 毫秒"
        "（是较贵的那种复制的 {dearer} 倍）。子进程工作时，父进程保持了原速的 {share}%。",
    ).filled(
        **how(held),
        before=facts[0]["before"], in_child=facts[0]["in_child"], kept=len(facts) - seen, count=len(facts),
        child_pid=facts[0]["child_pid"], parent_pid=facts[0]["parent_pid"],
        place="the same" if facts[0]["same_place"] else "another",
        place_zh="相同" if facts[0]["same_place"] else "不同",
        fork=fork.median, server=server.median, spawn=spawn.median, dearer=telling(dearer, DEARER, 0),
        share=telling(goes_on.median * 100, low * 100, 0),
    )  # fmt: skip
    if dearer < DEARER:
        text = joined(text, _NOT_DEARER)
    if not is_going_on:
        text = joined(text, _SLOWER if goes_on.median < low else _FASTER)
    return Verdict(
        held,
        text,
        {
            "seen by the parent": float(seen), "share of its pace": goes_on.median,
            "forkserver ÷ fork": server.median / fork.median, "spawn ÷ a copy": dearer,
        },
    )  # fmt: skip


_NOT_DEARER = Text(
    "A new Python was not 3 times as dear as a copy: a copy takes the longer, the more memory there is to copy, and "
    "where others want the cores, some ms say little.",
    "全新的 Python 的开销不到复制的 3 倍：要复制的内存越多，复制就越慢；而且有别的程序争用核时，"
    "几毫秒的差别说明不了多少问题。",
)
_SLOWER = Text(
    "The parent became slower than that: perhaps they did not get a core each all the time, or two logical cores are "
    "one physical core.",
    "父进程比预测的慢：可能两者并非始终各得一个核，也可能两个逻辑核同属一个物理核。",
)
_FASTER = Text(
    "The parent was faster beside its child: something must have held it up while it was alone; measure again.",
    "父进程与子进程同时运行时反而更快：单独运行时一定受到了别的干扰，请再测一次。",
)


# Pictures


def _mib(spread: Spread | None) -> Spread | None:
    return None if spread is None else spread / (1 << 20)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    ways = [way for way in WAYS if samples.of(way)]
    if ways:
        starts = [Bar(NAMES[way], samples.spread(way, "took_ms")) for way in ways]
        axis = Axis(Text("from asking for it to its first line", "从请求到运行第一行代码"), "ms", is_log=True)
        plots.append(Bars(Text("What it costs to start a process", "启动一个进程的开销"), axis, starts))
        groups = [Text("PSS: its part of what is shared, and its own", "PSS：分摊的共享部分加上独有部分")]
        groups.append(Text("its own alone", "仅独有部分"))
        sizes = [
            Bar(NAMES[way], spread, group, None if spread else _NOT_TOLD)
            for group, quantity in enumerate(("pss_bytes", "own_bytes"))
            for way in ways
            for spread in [_mib(samples.spread(way, quantity))]
        ]
        axis = Axis(Text("memory of a child that does nothing", "一个什么也不做的子进程的内存"), "MiB")
        plots.append(Bars(Text("How much memory a process has", "一个进程占用多少内存"), axis, sizes, groups))
    if samples.of(BESIDE):
        counts = [
            Bar(name, None if spread is None else spread / 1e3)
            for quantity, name in _COUNTS.items()
            for spread in [samples.spread(BESIDE, quantity)]
        ]
        axis = Axis(Text("counted in the same time", "相同时间内的计数"), "× 1000")
        plots.append(Bars(Text("The parent goes on while its child works", "子进程工作时父进程继续运行"), axis, counts))
    return plots


_COUNTS = {
    "alone": Text("parent, alone", "父进程，单独运行"),
    "beside": Text("parent, beside its child", "父进程，与子进程同时"),
    "by_child": Text("child", "子进程"),
}
_NOT_TOLD = Text("this kernel does not tell", "这个内核不提供")


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("process", "进程"), Text("until its first line, ms", "到第一行代码的时间，毫秒"),
        Text("PSS, MiB", "PSS，MiB"), Text("its own, MiB", "独有，MiB"), Text("RSS, MiB", "RSS，MiB"),
    ]  # fmt: skip
    first = Text("forkserver, when its server had to be started first", "forkserver，需要先启动服务器时")
    rows = []
    for way, name in {**NAMES, "forkserver, with its server": first}.items():
        if samples.of(way):
            cells = [samples.spread(way, "took_ms")]
            cells += [_mib(samples.spread(way, quantity)) for quantity in ("pss_bytes", "own_bytes", "rss_bytes")]
            rows.append([name, *(same(spread.text(1) if spread else "") for spread in cells)])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="processes",
    question=Text("What is a process?", "什么是进程？"),
    explains=Text(
        "A process is a program that runs, with a number (pid) and an address space of its own: the same address means "
        "other memory in another process. fork makes a copy of the calling process; the pages are shared until one of "
        "the two writes to them, so the copy is cheap, and yet no change gets across. spawn starts a new Python that "
        "imports everything again, here also this program. forkserver asks a small process, made once, to fork. Here "
        "a child by each is started through multiprocessing; the time is taken until its first line runs, and its "
        "memory is read from /proc. The process that asks is small here: by fork from a large one it takes longer.",
        "进程是正在运行的程序，有自己的编号（pid）和自己的地址空间：同一个地址，在另一个进程里指的是另一块内存。"
        "fork 复制调用它的进程；内存页在其中一方写入之前是共用的，所以复制很便宜，但改动不会传到对方。"
        "spawn 启动一个全新的 Python，重新导入一切，这里也包括本程序。forkserver 则请一个预先启动好的小进程来 fork。"
        "这里通过 multiprocessing 用每种方式启动子进程，测量到它运行第一行代码为止的时间，并从 /proc 读出它的内存。"
        "这里发起请求的进程很小；从大的进程 fork 要花更长的时间。",
    ),
    shown=(change_the_global, say_hello, start_one, count_for),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=2.0,
    full_s=11.0,
)
