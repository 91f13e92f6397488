"""What does a switch cost?  Two hand the turn to each other, there and back, as often as they can.

Each round trip is two switches.  A generator and its caller switch without the kernel.  Two threads hand over by two
locks, or by a condition; two processes by a byte in a pipe.  Each pair is kept to one core, where nobody can go on
before the other one stops; and as a control let loose on all cores, where another core has to be woken.

The kernel counts (getrusage): a switch is voluntary when whoever ran had to wait for something, involuntary when it
was stopped although it wanted to go on.  On one core both happen in a hand-over: whoever is woken may be let run at
once, before the one that woke it comes to wait.  So what is expected is their sum, over both ends.  Two processes on
one core that only compute are the other extreme: nothing makes them wait.
"""

from collections.abc import Callable, Generator, Sequence

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same
from paceline.stats.spread import Spread

GENERATOR, LOCK, CONDITION, PIPE, COMPUTE = "generator", "lock", "condition", "pipe", "compute"
FREE = ", all cores"
NAMES = {
    GENERATOR: Text("generator and its caller", "生成器与调用者"),
    LOCK: Text("two threads, by locks", "两个线程，用锁"),
    LOCK + FREE: Text("two threads, by locks, all cores", "两个线程，用锁，所有核"),
    CONDITION: Text("two threads, by a condition", "两个线程，用条件变量"),
    CONDITION + FREE: Text("two threads, by a condition, all cores", "两个线程，用条件变量，所有核"),
    PIPE: Text("two processes, by pipes", "两个进程，用管道"),
    PIPE + FREE: Text("two processes, by pipes, all cores", "两个进程，用管道，所有核"),
}
DEARER = 10.0
"""Predicted: a switch by the kernel costs at least so many times what a generator's does."""
EACH = 0.8
"""Predicted: at least so many switches, of either kind, are counted for each hand-over by the kernel."""
NONE = 0.1
"""Predicted: less than that is counted for each one of a generator."""

Counts = tuple[int, int]
"""Voluntary and involuntary switches."""


def echo() -> Generator[int, int, None]:
    """Gives back what it is sent, without an end."""
    value = 0
    while True:
        value = yield value


def by_generator(trips: int) -> None:
    """The caller resumes the generator, which goes back to the caller at its `yield`."""
    answer = echo()
    next(answer)
    for number in range(trips):
        answer.send(number)


def by_locks(trips: int) -> None:
    """Two threads, two locks: each releases the one that the other waits for."""
    import threading

    mine, yours = threading.Lock(), threading.Lock()
    mine.acquire()
    yours.acquire()

    def other() -> None:
        for _ in range(trips):
            yours.acquire()
            mine.release()

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    for _ in range(trips):
        yours.release()
        mine.acquire()
    thread.join()


def by_condition(trips: int) -> None:
    """Two threads, one condition: each waits until it is its turn."""
    import threading

    condition = threading.Condition()
    turn = 0

    def play(me: int) -> None:
        nonlocal turn
        for _ in range(trips):
            with condition:
                while turn != me:
                    condition.wait()
                turn = 1 - me
                condition.notify()

    thread = threading.Thread(target=play, args=(1,), daemon=True)
    thread.start()
    play(0)
    thread.join()


def by_pipes(trips: int, there: int, back: int) -> None:
    """Send a byte to the other process, and wait until it comes back."""
    import os

    for _ in range(trips):
        os.write(there, b".")
        os.read(back, 1)


def compute_for(seconds: float) -> list[int]:
    """Only compute, and wait for nothing; the voluntary and involuntary switches meanwhile."""
    from paceline.clock import now

    voluntary, involuntary = counted()
    until_s = now() + seconds
    while now() < until_s:
        pass
    after = counted()
    return [after[0] - voluntary, after[1] - involuntary]


def counted() -> Counts:
    """What the kernel has counted for all threads of this process."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw, usage.ru_nivcsw


# Measuring


def measure(study: Study) -> None:
    import os

    from paceline.lab.computing import amount_for

    cores = os.sched_getaffinity(0)
    ways: dict[str, Callable[[int], tuple[float, Counts]]] = {
        GENERATOR: lambda trips: _timed(by_generator, trips),
        LOCK: lambda trips: _timed(by_locks, trips),
        CONDITION: lambda trips: _timed(by_condition, trips),
        PIPE: _timed_by_pipes,
    }
    cases = [name for name in NAMES if not name.endswith(FREE) or len(cores) > 1]
    per_sample_s = 0.02 if study.quick else 0.1
    trips = {case: max(20, amount_for(ways[case.removesuffix(FREE)], per_sample_s)) for case in cases}
    study.settings(trips=trips)
    study.part(0, 0.75)
    try:
        for round_, case in study.rounds(cases, quick=6, full=20):
            os.sched_setaffinity(0, cores if case.endswith(FREE) else {study.chance.choice(sorted(cores))})
            count = trips[case]
            took_s, (voluntary, involuntary) = ways[case.removesuffix(FREE)](count)
            switches = 2 * count
            study.note(
                case,
                round_,
                switches=switches,
                switch_us=took_s / switches * 1e6,
                voluntary=voluntary,
                involuntary=involuntary,
            )
        study.part(0.75, 1)
        for round_, _ in study.rounds([COMPUTE], quick=2, full=5, warm_up=False):
            os.sched_setaffinity(0, {study.chance.choice(sorted(cores))})
            seconds = 0.3 if study.quick else 1.0
            found = _compute_beside_each_other(seconds)
            voluntary, involuntary = (sum(counts) for counts in zip(*found, strict=True))
            study.note(COMPUTE, round_, lasted_s=seconds, voluntary=voluntary, involuntary=involuntary)
    finally:
        os.sched_setaffinity(0, cores)


def _timed(way: Callable[[int], None], trips: int) -> tuple[float, Counts]:
    from paceline.clock import now

    before, begun_s = counted(), now()
    way(trips)
    took_s, after = now() - begun_s, counted()
    return took_s, (after[0] - before[0], after[1] - before[1])


def _timed_by_pipes(trips: int) -> tuple[float, Counts]:
    """The other process is made before the clock is started; what it has counted is added."""
    import os

    from paceline.lab.children import Children

    (there_out, there), (back, back_in) = os.pipe(), os.pipe()

    def other() -> list[int]:
        os.close(there)  # else it would not see that we have closed it
        before = counted()
        while os.read(there_out, 1):
            os.write(back_in, b".")
        after = counted()
        return [after[0] - before[0], after[1] - before[1]]

    is_open = True
    try:
        with Children([other]) as children:
            by_pipes(1, there, back)  # now it is there
            took_s, mine = _timed(lambda trips: by_pipes(trips, there, back), trips)
            os.close(there)
            is_open = False
            ((voluntary, involuntary),) = children.answers(within_s=10)
            return took_s, (mine[0] + voluntary, mine[1] + involuntary)
    finally:
        for fd in (there_out, back, back_in, *([there] if is_open else [])):
            os.close(fd)


def _compute_beside_each_other(seconds: float) -> list[list[int]]:
    """Two processes, on the core that this one is kept to."""
    from paceline.lab.children import Children

    with Children([lambda: compute_for(seconds)] * 2) as children:
        return list(children.answers(within_s=seconds * 10 + 10))


# What the samples say


def counted_each(samples: Samples, case: str, *kinds: str) -> Spread | None:
    """So many of these kinds, voluntary and involuntary, for each switch that was made."""
    return Spread.of(sum(sample[kind] for kind in kinds) / sample["switches"] for sample in samples.of(case))


def a_second(samples: Samples, kind: str) -> Spread | None:
    """So many a second of the two that compute, together."""
    return Spread.of(sample[kind] / sample["lasted_s"] for sample in samples.of(COMPUTE))


def predict(machine: Machine) -> Prediction:
    text = Text(
        "A generator is resumed without the kernel, so a switch between threads or processes, which the kernel makes, "
        "costs at least {dearer:g} × as much. On one core the kernel counts about one switch or more for each of "
        "those ({each:g} at least): voluntary where one had to wait, involuntary where the one that was woken ran at "
        "once; and none for a generator. For processes that only compute it counts more involuntary ones than "
        "voluntary ones. Which is dearer, thread or process, is not predicted: a process has other page tables",
        "恢复生成器不需要内核，所以由内核完成的线程切换或进程切换，开销至少是它的 {dearer:g} 倍。在单核上，内核为这样"
        "的每一次交接至少记大约一次切换（不少于 {each:g} 次）：一方必须等待的，记为自愿；被唤醒的一方立刻抢先运行的，"
        "记为非自愿；而生成器一次也不记。对只做计算的进程，记下的非自愿切换多于自愿切换。线程和进程哪个更贵，这里不作"
        "预测：进程要换页表",
    ).filled(dearer=DEARER, each=EACH)
    end = Text(", a thread has to get the GIL.", "，线程则还要拿到 GIL。") if machine.has_gil else Text(".", "。")
    return Prediction(
        Text(text.en + end.en, text.zh + end.zh),
        {"kernel ÷ generator": DEARER, "counted for each": 1.0, "counted for each, generator": 0.0},
    )


def judge(_machine: Machine, samples: Samples) -> Verdict:
    cost = {case: samples.spread(case, "switch_us") for case in NAMES}
    each = {case: counted_each(samples, case, "voluntary", "involuntary") for case in NAMES}
    of_own, stopped = a_second(samples, "voluntary"), a_second(samples, "involuntary")
    medians = {case: spread.median for case, spread in cost.items() if spread is not None}
    counts = {case: spread.median for case, spread in each.items() if spread is not None}
    if of_own is None or stopped is None or not {GENERATOR, LOCK, CONDITION, PIPE} <= medians.keys():
        return Verdict.unknown()
    own = medians[GENERATOR]
    cheapest = min(medians[case] for case in (LOCK, CONDITION, PIPE))
    reasons = [
        why
        for is_so, why in (
            (cheapest >= DEARER * own, _NOT_DEARER),
            (counts[GENERATOR] < NONE and min(counts[LOCK], counts[CONDITION], counts[PIPE]) >= EACH, _NOT_COUNTED),
            (stopped.median > of_own.median, _NOT_STOPPED),
        )
        if not is_so
    ]
    text = Text(
        "{how} here: a switch took {own:.3f} µs with a generator; on one core {lock:.1f} µs between threads by locks "
        "({by_lock:,.0f} ×), {condition:.1f} µs by a condition, and {pipe:.1f} µs between processes by pipes "
        "({by_pipe:,.0f} ×). For each hand-over the kernel counted {own_count:.2f} switches with a generator, "
        "{lock_count:.2f} with locks, {condition_count:.2f} with a condition, {pipe_count:.2f} with pipes. Two that "
        "only compute were stopped {stopped:,.0f} times a second, and waited {waited:,.0f} times.",
        "在这台机器上{how_zh}：生成器切换一次 {own:.3f} 微秒；单核上，线程用锁 {lock:.1f} 微秒（{by_lock:,.0f} 倍），"
        "用条件变量 {condition:.1f} 微秒，进程用管道 {pipe:.1f} 微秒（{by_pipe:,.0f} 倍）。内核为每次交接"
        "记下的切换：生成器 {own_count:.2f} 次，锁 {lock_count:.2f} 次，条件变量 {condition_count:.2f} 次，"
        "管道 {pipe_count:.2f} 次。"
        "只做计算的两个进程每秒被停下 {stopped:,.0f} 次，主动等待 {waited:,.0f} 次。",
    ).filled(
        **how(not reasons),
        own=own, lock=medians[LOCK], condition=medians[CONDITION], pipe=medians[PIPE],
        by_lock=medians[LOCK] / own, by_pipe=medians[PIPE] / own, own_count=counts[GENERATOR],
        lock_count=counts[LOCK], condition_count=counts[CONDITION], pipe_count=counts[PIPE],
        stopped=stopped.median, waited=of_own.median,
    )  # fmt: skip
    figures = {f"{case} µs": value for case, value in medians.items()}
    figures |= {"stopped a second": stopped.median, "waited a second": of_own.median}
    return Verdict(not reasons, joined(text, *reasons), figures)


_NOT_DEARER = Text(
    "So the kernel's switch was less than {dearer:g} × as dear; what both pay for carrying out Python is part of each.",
    "可见内核的切换还不到 {dearer:g} 倍；执行 Python 代码本身的开销在两者里都占了一部分。",
).filled(dearer=DEARER)
_NOT_COUNTED = Text(
    "The counts are not as predicted: a hand-over for which nobody had to wait needs no switch, other programs on "
    "that core make more of them, and where the system keeps no such counts they are 0.",
    "计数与预测不符：谁都不必等待的交接不需要切换；同一个核上的其他程序会使切换增多；如果系统不提供这种计数，则为 0。",
)
_NOT_STOPPED = Text(
    "That two which only compute were not stopped more often than they waited was not expected: they may have been "
    "on different cores, or this system does not count it.",
    "只做计算的两个进程被停下的次数没有多于主动等待的次数，这出乎意料：它们可能在不同的核上，"
    "也可能这个系统不做这种计数。",
)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    cases = [case for case in NAMES if samples.of(case)]
    groups = Text("kept to one core", "限制在一个核上"), Text("let loose on all cores", "放开到所有核上")
    if cases:
        axis = Axis(Text("time for one switch", "一次切换的时间"), "µs", is_log=True)
        bars = [Bar(NAMES[case], samples.spread(case, "switch_us"), group=int(case.endswith(FREE))) for case in cases]
        plots.append(Bars(Text("What a switch costs", "一次切换的开销"), axis, bars, groups))
        kinds = {"voluntary": Text("voluntary", "自愿"), "involuntary": Text("involuntary", "非自愿")}
        axis = Axis(Text("switches counted for each hand-over", "每次交接记下的切换次数"))
        bars = [
            Bar(Text(f"{NAMES[case].en}: {name.en}", f"{NAMES[case].zh}：{name.zh}"), spread, group)
            for case in cases
            for group, (kind, name) in enumerate(kinds.items())
            if (spread := counted_each(samples, case, kind)) is not None and not case.endswith(FREE)
        ]
        title = Text("What the kernel counted, on one core", "单核上内核的计数")
        plots.append(Bars(title, axis, bars, list(kinds.values())))
    if samples.of(COMPUTE):
        axis = Axis(Text("switches a second, both together", "每秒切换次数（两个合计）"))
        bars = [
            Bar(Text("voluntary: waited", "自愿：主动等待"), a_second(samples, "voluntary")),
            Bar(Text("involuntary: stopped", "非自愿：被停下"), a_second(samples, "involuntary"), 1),
        ]
        plots.append(Bars(Text("Two processes that only compute, on one core", "单核上两个只做计算的进程"), axis, bars))
    return plots


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("who", "谁"), Text("a switch, µs", "一次切换，微秒"),
        Text("voluntary, for each hand-over", "自愿切换（每次交接）"),
        Text("involuntary, for each hand-over", "非自愿切换（每次交接）"), Text("switches made", "切换次数"),
    ]  # fmt: skip
    rows = []
    for case, name in NAMES.items():
        if not samples.of(case):
            continue
        spreads = (
            samples.spread(case, "switch_us"), counted_each(samples, case, "voluntary"),
            counted_each(samples, case, "involuntary"),
        )  # fmt: skip
        made = sum(sample["switches"] for sample in samples.of(case))
        cells = [same(spread.text(digits) if spread else "") for spread, digits in zip(spreads, (3, 2, 2), strict=True)]
        rows.append([name, *cells, same(f"{made:,}")])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="switching",
    question=Text("What does a switch cost?", "切换一次的开销有多大？"),
    explains=Text(
        "To take turns, somebody has to be stopped and somebody else to go on. A generator does it within the program: "
        "it keeps its place, and its caller goes on. For threads and processes the kernel does it: it keeps the "
        "registers of one, chooses another, and loads its registers; for another process also its page tables. Here "
        "two hand the turn to each other as fast as they can; half of a round trip is called a switch, with all that "
        "Python and the kernel do for it. The kernel counts a switch as voluntary when whoever ran had to wait, as "
        "involuntary when it was stopped; of threads there may be several for one hand-over, since a thread that "
        "was woken has to wait again when another one has the GIL. Where another core has to be woken, a hand-over may "
        "take longer.",
        "要轮流运行，就得有人停下、有人继续。生成器在程序内部完成：它记住自己的位置，调用者继续。"
        "线程和进程则由内核来切换：保存一方的寄存器，选出另一方，装入它的寄存器；换到另一个进程时还要换页表。"
        "这里让两方以最快的速度把轮次交给对方；一个来回的一半算作一次切换，包含 Python 和内核为此所做的一切。"
        "运行者自己需要等待时，内核记为自愿切换；被强行停下时，记为非自愿切换。"
        "线程交接一次可能记下好几次切换：被唤醒的线程如果发现 GIL 在别人手里，就得再等一次。如果要唤醒另一个核，"
        "交接可能花更长时间。",
    ),
    shown=(by_generator, by_locks, by_condition, by_pipes, compute_for),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=2.0,
    full_s=19.0,
)
