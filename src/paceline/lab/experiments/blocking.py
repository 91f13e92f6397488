"""What do threads do for blocking work?  While one waits, others run, if whatever it waits in has released the GIL.

Work: 1 to 64 threads do nothing but sleep, ask a socket whose peer answers after 1 ms, write a file through to its
disk, or query SQLite; how often all together, in a second.  Witness: one thread reads its clock without a pause while
another one is inside a call of about 20 ms; the share of that time in which the witness ran says whether the call
released the GIL.  Convoy: one thread sends and receives a byte, alone, and beside one that computes; each time that it
has given the GIL up it may have to wait for a switch interval until it gets it back.  For the last two each thread is
kept to a core of its own, if there are two: what is to be seen is the GIL, and not where the kernel puts threads.

Peers are processes of their own, so that they do not need our GIL.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Bar, Bars, Kind, Lines, Plot, Series
from paceline.lab.samples import Samples
from paceline.lab.spans import JUMP_NS
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    import socket

Do = Callable[[], object]
"""One piece of blocking work."""

MOST = 64
WAIT_S = 0.001
CALL_S = 0.02

WORK = {
    "sleep": Text("sleep 1 ms", "睡眠 1 毫秒"),
    "socket": Text("ask a socket, answer after 1 ms", "询问套接字，1 毫秒后应答"),
    "file": Text("write 4 KiB to a file (fsync)", "把 4 KiB 写入文件（fsync）"),
    "SQLite": Text("an SQLite query", "SQLite 查询"),
}
CALLS = {
    "in sleep": Text("sleep", "sleep"),
    "in recv": Text("recv of a socket", "套接字 recv"),
    "in read": Text("read a large file (cached)", "读大文件（已在缓存中）"),
    "in SQLite": Text("an SQLite query", "SQLite 查询"),
    "in sha256": Text("sha256 of a large buffer", "对大缓冲区做 sha256"),
    "in zlib": Text("zlib.compress", "zlib.compress"),
    "in Python": Text("a loop in pure Python", "纯 Python 循环"),
    "in sum": Text("sum(range(n)): one call in C", "sum(range(n))：一次 C 调用"),
}
ALONE, BESIDE = "alone", "beside one that computes"
CONVOY = {ALONE: Text("alone", "单独"), BESIDE: Text("beside a thread that computes", "旁边有线程在计算")}

JUDGED, TIMES = 16, 8.0
"""Predicted: 16 threads that wait do at least 8 × the work of one."""
RELEASED, KEPT = 0.5, 0.25
"""The witness runs for at least, or at most, that share of a call that releases the GIL, or keeps it."""
LEAST, BEYOND = 0.6, 1.25
"""SQLite gains at least, and at most, so many times the cores (and no more than the threads)."""
FALL = 10.0
"""Predicted with a GIL: beside a thread that computes, at most one part in so many of the round trips is left."""


def work_together(does: Sequence[Do], seconds: float) -> float:
    """One thread for each, doing its blocking work again and again for so long; how often a second, all together."""
    from paceline.clock import now
    from paceline.lab.crew import Crew

    until_s = 0.0

    def worker(do: Do) -> int:
        count = 0
        while now() < until_s:
            do()
            count += 1
        return count

    with Crew([lambda do=do: worker(do) for do in does]) as crew:  # type: ignore[misc]
        begun_s = now()
        until_s = begun_s + seconds
        crew.begin()
        return float(sum(crew.answers()) / (now() - begun_s))


def witness(call: Callable[[], Any]) -> tuple[float, float]:
    """How long the call took, and in what share of that time another thread could run, by its own clock."""
    import os
    from operator import call as called

    from paceline.clock import now_ns, sleep
    from paceline.lab.crew import Crew
    from paceline.lab.waiting import apart

    def watch() -> list[tuple[int, int]]:
        os.sched_setaffinity(0, others)
        stops = []
        last = now_ns()
        while not crew.ended.is_set():
            seen = now_ns()
            if seen - last > JUMP_NS:
                stops.append((last, seen))
            last = seen
        return stops

    with apart() as others, Crew([watch]) as crew:  # each has a core of its own
        crew.begin()
        sleep(0.005)
        times = list(map(called, (now_ns, call, now_ns)))  # in C, which does not give up the GIL in between
        crew.ended.set()
        (stops,) = crew.answers()
    begun, ended = times[0], times[2]
    stopped = sum(max(0, min(to, ended) - max(since, begun)) for since, to in stops)
    return (ended - begun) / 1e9, 1 - stopped / (ended - begun)


def round_trips(peer: "socket.socket", seconds: float, is_disturbed: bool) -> float:
    """Send a byte to a peer that answers at once, again and again, maybe beside a thread that computes; how often a
    second."""
    import os

    from paceline.clock import now
    from paceline.lab.crew import Crew
    from paceline.lab.waiting import apart

    def compute() -> None:
        os.sched_setaffinity(0, others)
        while not crew.ended.is_set():
            sum(number * number for number in range(100))

    with apart() as others, Crew([compute] if is_disturbed else []) as crew:  # each has a core of its own
        crew.begin()
        begun_s, count = now(), 0
        while now() < begun_s + seconds:
            peer.send(b"?")
            peer.recv(1)
            count += 1
        return count / (now() - begun_s)


# Measuring


def measure(study: Study) -> None:
    import tempfile

    from paceline.lab.waiting import calls, file_system_of, peers, work

    with (
        tempfile.TemporaryDirectory(prefix="paceline-lab-") as folder,
        peers(MOST, WAIT_S) as slow,
        peers(1, 0.0) as (quick,),
        work(folder, slow, WAIT_S) as does,
        calls(folder, CALL_S) as called,
    ):
        study.settings(files_on=file_system_of(folder))
        study.part(0, 0.6)
        _measure_work(study, does)
        study.part(0.6, 0.8)
        for round_, case in study.rounds(CALLS, quick=3, full=10):
            took_s, share = witness(called[case])
            study.note(case, round_, took_ms=took_s * 1e3, witness=share)
        study.part(0.8, 1)
        for round_, case in study.rounds(CONVOY, quick=3, full=6):
            seconds = 0.05 if round_ == 0 else 0.2 if study.quick else 1.0
            study.note(case, round_, trips_a_second=round_trips(quick, seconds, case == BESIDE))


def _measure_work(study: Study, does: Mapping[str, Sequence[Do]]) -> None:
    numbers = study.pick([1, 4, JUDGED, MOST], [1, 2, 4, 8, JUDGED, 32, MOST])
    cases = [(kind, number) for kind in WORK for number in numbers]
    for round_, (kind, number) in study.rounds(cases, quick=2, full=4):
        seconds = 0.02 if round_ == 0 else 0.1 if study.quick else 0.3
        done = work_together(does[kind][:number], seconds)
        study.note(case_of(kind, number), round_, kind=kind, threads=number, a_second=done)


def case_of(kind: str, threads: int) -> str:
    return f"{kind}, {threads} threads"


# What the samples say


def by_threads(samples: Samples, kind: str) -> dict[int, Spread]:
    """How often a second, by the number of threads."""
    numbers = sorted({sample["threads"] for sample in samples if sample.get("kind") == kind})
    found = {number: samples.spread(case_of(kind, number), "a_second") for number in numbers}
    return {number: spread for number, spread in found.items() if spread is not None}


def gain(samples: Samples, kind: str, threads: int) -> Spread | None:
    """So many threads, by one, round by round."""
    return samples.ratio("a_second", case_of(kind, threads), case_of(kind, 1))


def sqlite_gain(machine: Machine) -> tuple[float, float]:
    """From … to, what many threads gain of one where each computes without the GIL."""
    cores = min(machine.cores, JUDGED)
    return (LEAST * cores if cores > 1 else 0.8), BEYOND * cores


def predict(machine: Machine) -> Prediction:
    least, most = sqlite_gain(machine)
    waits = Text(
        "Threads that wait need no core: {threads} that sleep, or wait for a socket, do at least {times:g} × the work "
        "of one; SQLite, which computes, gains as far as the cores go ({least:.2g} × to {most:.2g} × with {cores} "
        "cores). What files gain is a matter of the disk, and not predicted.",
        "等待中的线程不需要核：{threads} 个睡眠或等套接字的线程，完成的工作至少是一个的 {times:g} 倍；"
        "SQLite 要计算，提升受核数限制（{cores} 个核时为 {least:.2g} 到 {most:.2g} 倍）。"
        "文件能提升多少要看磁盘，不作预测。",
    ).filled(threads=JUDGED, times=TIMES, cores=machine.cores, least=least, most=most)
    if machine.has_gil:
        gil = Text(
            "sleep and recv release the GIL, and so does sha256 of a large buffer: another thread runs meanwhile. One "
            "long call in C, such as sum(range(n)), keeps it. A thread that sends and receives beside one that "
            "computes may wait for a switch interval (5 ms) each time that it wants the GIL back: at most a tenth of "
            "its round trips is left.",
            "sleep 和 recv 会释放 GIL，对大缓冲区做 sha256 也会：这时别的线程可以运行。"
            "一次很长的 C 调用，例如 sum(range(n))，则一直持有它。如果旁边有线程在计算，"
            "收发数据的线程每次想拿回 GIL 都可能要等一个切换间隔（5 毫秒）：往返次数最多剩下十分之一。",
        )
    else:
        gil = Text(
            "This Python runs without a GIL: beside any of these calls another thread runs, if there is a core for "
            "it, and beside one that computes more than a tenth of the round trips is left: no convoy.",
            "这个 Python 不带 GIL 运行：只要有空闲的核，任何一种调用进行时别的线程都能运行；"
            "旁边有线程在计算时，往返次数剩下的也多于十分之一：没有护航效应。",
        )
    return Prediction(joined(waits, gil), {"16 threads that wait": TIMES, "fall": FALL})


def judge(machine: Machine, samples: Samples) -> Verdict:
    gains = {kind: gain(samples, kind, JUDGED) for kind in WORK}
    shares = {case: spread.median for case in CALLS if (spread := samples.spread(case, "witness")) is not None}
    rates = {case: spread.median for case in CONVOY if (spread := samples.spread(case, "trips_a_second")) is not None}
    times = {kind: spread.median for kind, spread in gains.items() if spread is not None}
    if len(times) < len(WORK) or len(shares) < len(CALLS) or len(rates) < len(CONVOY) or not rates[BESIDE]:
        return Verdict.unknown()
    fall = rates[ALONE] / rates[BESIDE]
    reasons = _reasons(machine, times, shares, fall)
    text = Text(
        "{how} here: {threads} threads did {sleep} × the work of one when they slept, {socket} × with sockets, "
        "{file:.1f} × with files, {sqlite:.1f} × with SQLite. Another thread ran in {in_recv:.0%} of the time of a "
        "recv, {in_hash:.0%} of sha256, {in_python:.0%} of a loop in Python, {in_sum:.0%} of sum(range(n)). "
        "Of {alone:,.0f} round trips a second alone, {beside:,.0f} were left beside a thread that computes (1 of "
        "{fall}).",
        "在这台机器上{how_zh}：{threads} 个线程完成的工作，睡眠时是单个线程的 {sleep} 倍，套接字 {socket} 倍，"
        "文件 {file:.1f} 倍，SQLite {sqlite:.1f} 倍。另一个线程得以运行的时间，recv 期间占 {in_recv:.0%}，"
        "sha256 期间 {in_hash:.0%}，Python 循环期间 {in_python:.0%}，sum(range(n)) 期间 {in_sum:.0%}。"
        "单独时每秒往返 {alone:,.0f} 次，旁边有线程在计算时只剩 {beside:,.0f} 次（约为 {fall} 分之一）。",
    ).filled(
        **how(not reasons),
        threads=JUDGED, sleep=telling(times["sleep"], TIMES, 1), socket=telling(times["socket"], TIMES, 1),
        file=times["file"], sqlite=times["SQLite"],
        in_recv=shares["in recv"], in_hash=shares["in sha256"], in_python=shares["in Python"],
        in_sum=shares["in sum"], alone=rates[ALONE], beside=rates[BESIDE],
        fall=telling(fall, FALL, 0),
    )  # fmt: skip
    figures = {f"{kind} ×": value for kind, value in times.items()} | {"fall": fall} | shares
    return Verdict(not reasons, joined(text, *reasons), figures)


def _reasons(machine: Machine, times: Mapping[str, float], shares: Mapping[str, float], fall: float) -> list[Text]:
    """What was not as predicted."""
    reasons = []
    if min(times["sleep"], times["socket"]) < TIMES:
        reasons.append(_NOT_MORE)
    least, most = sqlite_gain(machine)
    if times["SQLite"] > most:
        reasons.append(_BEYOND_CORES)
    if times["SQLite"] < least:
        reasons.append(_BELOW_CORES)
    # on one core, the kernel shares it between the witness and whatever computes, GIL or not
    released = ["in sleep", "in recv", *(["in sha256"] if machine.cores > 1 else [])]
    if not machine.has_gil and machine.cores > 1:
        released = list(CALLS)
    if min(shares[case] for case in released) < RELEASED:
        reasons.append(_NOT_RELEASED)
    if machine.has_gil and shares["in sum"] > KEPT:
        reasons.append(_NOT_KEPT)
    if (fall >= FALL) != machine.has_gil:
        reasons.append(_NO_CONVOY if machine.has_gil else _A_CONVOY)
    return reasons


_NOT_MORE = Text(
    "Threads that wait gained less: each needs some microseconds of a core, and of the GIL if there is one, before "
    "and after it waits, and the peer that answers needs a core, too.",
    "等待的线程增益不足：每个线程在等待前后都要占用核（有 GIL 时还有 GIL）若干微秒，应答的一方也需要核。",
)
_BEYOND_CORES = Text(
    "SQLite gained more than there are cores: one thread alone was held up, or these are not all the cores it had.",
    "SQLite 的提升超过了核数：要么只用一个线程时受到了干扰，要么它实际用到的核不止这些。",
)
_BELOW_CORES = Text(
    "SQLite gained less than the cores allow: others may have wanted them, or its own locks held threads up.",
    "SQLite 的提升没有达到核数所允许的：可能别的程序也要用这些核，也可能它自己的锁让线程互相等待。",
)
_NOT_RELEASED = Text(
    "Beside a call that does not hold up others, the other thread ran for less than half of the time: the GIL was "
    "held, or there was no core for it.",
    "在不该妨碍别人的调用期间，另一个线程运行的时间不到一半：要么 GIL 没有被释放，要么没有空闲的核。",
)
_NOT_KEPT = Text(
    "Another thread ran beside sum(range(n)): this Python may give the GIL up within it.",
    "在 sum(range(n)) 期间另一个线程也在运行：可能这个 Python 会在其中释放 GIL。",
)
_NO_CONVOY = Text(
    "The convoy was weaker: either the round trips were slow alone, too, or the switch interval is short.",
    "护航效应较弱：要么单独时往返本来就慢，要么切换间隔较短。",
)
_A_CONVOY = Text(
    "There is no GIL to explain such a fall: there may have been too few free cores for the three at work.",
    "没有 GIL 可以解释这样的下降：可能空闲的核不够这三方使用。",
)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    found = {kind: its for kind in WORK if (its := by_threads(samples, kind))}
    if found:
        series = [
            Series(WORK[kind], [(float(number), spread) for number, spread in its.items()])
            for kind, its in found.items()
        ]
        if 1 in (its := found.get("sleep", {})):
            line = [(float(n), Spread.exactly(n * its[1].median)) for n in its]
            series.append(Series(Text("n × one that sleeps", "n × 一个睡眠线程"), line, Kind.THEORY))
        title = Text("Blocking work, by more and more threads", "越来越多的线程做阻塞的工作")
        x = Axis(Text("threads", "线程数"), is_log=True)
        y = Axis(Text("done a second, all together", "每秒完成次数（合计）"), "1/s", is_log=True)
        plots.append(Lines(title, x, y, series))
    if any(samples.of(case) for case in CALLS):
        bars = [
            Bar(name, Spread.of(share * 100 for share in samples.values(case, "witness")))
            for case, name in CALLS.items()
        ]
        title = Text("While one thread is in a call: does another one run?", "一个线程在调用中时，另一个线程能运行吗？")
        axis = Axis(Text("share of the call in which the other one ran", "另一个线程运行的时间所占比例"), "%")
        plots.append(Bars(title, axis, bars))
    if any(samples.of(case) for case in CONVOY):
        bars = [Bar(name, samples.spread(case, "trips_a_second")) for case, name in CONVOY.items()]
        title = Text("The convoy: round trips of one thread", "护航效应：一个线程的往返次数")
        plots.append(Bars(title, Axis(Text("round trips", "往返次数"), "1/s", True), bars))
    return plots


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [Text("what", "项目"), Text("median (lowest … highest)", "中位数（最小 … 最大）"), Text("of", "个数")]
    quantities: list[tuple[Text, Spread | None]] = []
    rows = []
    for kind, name in WORK.items():
        if its := by_threads(samples, kind):
            numbers = " · ".join(map(str, its))
            medians = " · ".join(f"{spread.median:,.0f}" for spread in its.values())
            what = Text("{name}: 1/s with {numbers} threads", "{zh}：{numbers} 个线程，次/秒")
            what = what.filled(name=name.en, zh=name.zh, numbers=numbers)
            rows.append([what, same(medians), same(f"{sum(spread.count for spread in its.values())}")])
    for case, name in CALLS.items():
        what = Text("another thread ran, %: {name}", "另一个线程在运行，%：{zh}").filled(name=name.en, zh=name.zh)
        quantities.append((what, Spread.of(share * 100 for share in samples.values(case, "witness"))))
    for case, name in CONVOY.items():
        what = Text("round trips, 1/s: {name}", "往返，次/秒：{zh}").filled(name=name.en, zh=name.zh)
        quantities.append((what, samples.spread(case, "trips_a_second")))
    rows += [[name, same(it.text(0)), same(f"{it.count:,}")] for name, it in quantities if it is not None]
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="blocking",
    question=Text("What do threads do for blocking work?", "线程对阻塞型工作有什么用？"),
    explains=Text(
        "Most of a server's time is spent waiting: for a client, a disk, a database. A thread that waits in a call "
        "of the kernel has released the GIL before, so that others run. First more and more threads do only such "
        "work. Then one thread makes a call of about 20 ms while another one reads its clock without a pause: if its "
        "clock stands still, the call has kept the GIL. Last the convoy: a thread that often waits for a moment must "
        "each time get the GIL back from one that computes, and that one gives it up only after the switch interval. "
        "So one thread that computes slows down all those that serve beside it.",
        "服务器大部分时间都在等待：等客户端、等磁盘、等数据库。线程在内核调用中等待之前会先释放 GIL，别的线程就能运行。"
        "这里先让越来越多的线程只做这样的工作。然后让一个线程进行一次约 20 毫秒的调用，另一个线程不停地看时钟："
        "如果它的时钟停住不动，说明这次调用一直持有 GIL。最后是护航效应：一个经常短暂等待的线程，"
        "每次都要从正在计算的线程手里拿回 GIL，而对方要过一个切换间隔才交出来。"
        "所以只要有一个线程在计算，旁边所有提供服务的线程都会变慢。",
    ),
    shown=(work_together, witness, round_trips),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=10.0,
    full_s=58.0,
)
