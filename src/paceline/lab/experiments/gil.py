"""Why are threads not parallel?  In CPython with a GIL, only the thread that holds it executes Python code.

Three things are measured.  Work: a fixed amount of pure Python, divided among 1 to 8 threads.  Who: four threads read
the clock without a pause; where a thread's clock jumps it did not run, so what lies between two jumps is a time in
which it held the GIL (and had a core).  Interval: a thread that has slept wants the GIL back while another one
computes; how late it comes depends on sys.setswitchinterval, after which the one that waits asks for it.

Without a GIL theory says other things, and so do prediction and verdict.
"""

from collections.abc import Sequence
from statistics import median

from paceline.lab.computing import piece_of_work
from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Kind, Lane, Lines, Plot, Series, Timeline
from paceline.lab.samples import Samples
from paceline.lab.spans import at_a_time, in_ms, lengths_of, overlap_of, watch_own_clock
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

WATCHERS = 4
INTERVALS_MS = (0.5, 5.0, 50.0)
"""5 ms is CPython's own."""
NAP_S = 0.002
DRAWN_MS = 100.0

WHO, ALONE = "who", "nobody computes"

NO_GAIN = 1.15
"""With a GIL, up to so many times as fast as one thread still counts as no gain."""
MOST_OVERLAP = 0.02
WITHIN = 2.0
"""With a GIL, who wakes up is late by the interval, up to twice as much or half of it."""
NEARLY = 0.7
"""Without a GIL, that share of the cores counts as all of them."""
MOST_LATE_MS = 10.0
"""Without a GIL, who wakes up is less late than that, whatever the interval."""


def divide_among(threads: int, steps: int) -> float:
    """Do a fixed amount of work in so many threads, each an equal share; how long it took, in seconds."""
    from paceline.clock import now
    from paceline.lab.crew import Crew

    with Crew([lambda: piece_of_work(steps // threads)] * threads) as crew:  # made, but they wait at a gate
        begun_s = now()
        crew.begin()
        crew.answers()  # waits for all
        return now() - begun_s


def how_late(naps: int, interval_s: float, is_disturbed: bool) -> list[float]:
    """Sleep for 2 ms again and again, while another thread computes or not; by how many ms each time was too long."""
    import sys

    from paceline.clock import now, sleep
    from paceline.lab.crew import Crew

    def compute() -> None:
        while not crew.ended.is_set():
            piece_of_work(1000)

    before_s = sys.getswitchinterval()
    late_ms = []
    try:
        sys.setswitchinterval(interval_s)
        with Crew([compute] if is_disturbed else []) as crew:
            crew.begin()
            for _ in range(naps):
                due_s = now() + NAP_S
                sleep(NAP_S)
                late_ms.append((now() - due_s) * 1e3)
            crew.ended.set()
    finally:
        sys.setswitchinterval(before_s)
    return late_ms


# Measuring


def measure(study: Study) -> None:
    from paceline.lab.computing import amount_for

    study.part(0, 0.55)
    steps = max(8, amount_for(piece_of_work, 0.2 if study.quick else 1.0))
    study.settings(steps=steps, watchers=WATCHERS, nap_s=NAP_S)
    for round_, threads in study.rounds(study.pick([1, 2, 4, 8], range(1, 9)), quick=3, full=4):
        took_s = divide_among(threads, steps if round_ else steps // 5)
        study.note(str(threads), round_, threads=threads, took_s=took_s)
    study.part(0.55, 0.7)
    for round_, _ in study.rounds([WHO], quick=2, full=5):
        ran = _watch_together(0.05 if round_ == 0 else 0.3 if study.quick else 0.8)
        study.note(WHO, round_, ran_ms=in_ms(ran))
    study.part(0.7, 1)
    cases: list[float | None] = [None, *INTERVALS_MS]
    for round_, interval_ms in study.rounds(cases, quick=2, full=6):
        naps = 2 if round_ == 0 else max(6, min(30, int((300 if study.quick else 600) / ((interval_ms or 1) + 2))))
        late_ms = how_late(naps, (interval_ms or 5.0) / 1e3, interval_ms is not None)
        case = ALONE if interval_ms is None else case_of(interval_ms)
        study.note(case, round_, interval_ms=interval_ms, late_ms=late_ms)


def case_of(interval_ms: float) -> str:
    return f"interval {interval_ms:g} ms"


def _watch_together(seconds: float) -> list[list[tuple[int, int]]]:
    from paceline.clock import now_ns
    from paceline.lab.crew import Crew

    from_ns = until_ns = 0
    with Crew([lambda: watch_own_clock(from_ns, until_ns)] * WATCHERS) as crew:
        from_ns = now_ns()
        until_ns = from_ns + int(seconds * 1e9)
        crew.begin()
        return list(crew.answers())


# What the samples say


def throughputs(samples: Samples) -> dict[int, Spread]:
    """By the number of threads: relative to one thread, round by round."""
    found = {}
    for threads in sorted({sample["threads"] for sample in samples if "threads" in sample}):
        spread = samples.ratio("took_s", "1", str(threads))
        if spread is not None:
            found[threads] = spread
    return found


# Prediction and verdict


def predict(machine: Machine) -> Prediction:
    if machine.has_gil:
        text = joined(
            Text(
                "This Python has a GIL: one thread executes Python code at a time, whatever the number of cores. So 2 "
                "to 8 threads do the same work no faster than one (at most {gain:g} ×), and at (nearly) no moment two "
                "of them run (at most {overlap:.0%} of the time). Who wakes up while another one computes waits for "
                "about the switch interval (half of it to twice): 5 ms late with 5 ms, 50 ms with 50 ms.",
                "这个 Python 有 GIL：不论有多少个核，同一时刻只有一个线程执行 Python 代码。所以 2 到 8 个线程做同样的"
                "工作，并不比一个线程快（不超过 {gain:g} 倍），（几乎）没有哪个时刻有两个线程在运行"
                "（不超过 {overlap:.0%} 的时间）。别的线程正在计算时，醒来的线程大约要等一个切换间隔（一半到两倍）："
                "间隔 5 毫秒就晚 5 毫秒，50 毫秒就晚 50 毫秒。",
            ).filled(gain=NO_GAIN, overlap=MOST_OVERLAP),
            _ONE_CORE if machine.cores == 1 else same(""),
        )
        return Prediction(text, {"throughput": 1.0, "overlap": 0.0, "late at 5 ms": 5.0, "late at 50 ms": 50.0})
    most = min(machine.cores, 8)
    return Prediction(
        Text(
            "This Python runs without a GIL: threads execute Python code on all cores, so up to {most} × the "
            "throughput of one thread, and {watchers} of 4 threads run at a time. The switch interval is "
            "without effect: who wakes up is less than {late:g} ms late.",
            "这个 Python 不带 GIL 运行：线程可以在所有核上执行 Python 代码，所以吞吐量最多是一个线程的 {most} 倍，"
            "4 个线程中同一时刻有 {watchers} 个在运行。切换间隔不起作用：醒来的线程晚不到 {late:g} 毫秒。",
        ).filled(most=most, watchers=min(machine.cores, WATCHERS), late=MOST_LATE_MS),
        {"throughput": most, "at a time": min(machine.cores, WATCHERS), "late at most": MOST_LATE_MS},
    )


_ONE_CORE = Text(
    "With one core the first two would be so without a GIL, too: here only the interval tells something of it.",
    "只有一个核时，即使没有 GIL，前两条也同样成立：在这里，只有切换间隔能说明 GIL。",
)


def judge(machine: Machine, samples: Samples) -> Verdict:
    found = {threads: spread.median for threads, spread in throughputs(samples).items() if threads > 1}
    ran = [sample["ran_ms"] for sample in samples.of(WHO)]
    late = {interval: samples.values(case_of(interval), "late_ms") for interval in INTERVALS_MS}
    holds = [hold for each in ran for hold in lengths_of(each)]
    if not found or not holds or not all(late.values()):
        return Verdict.unknown()
    best, overlap = max(found, key=lambda threads: found[threads]), max(overlap_of(each) for each in ran)
    together, medians = median(at_a_time(each) for each in ran), {key: median(its) for key, its in late.items()}
    checks = _checks(machine, found[best], overlap, together, medians)
    held = not checks
    text = Text(
        "{how} here: the best of 2 to 8 threads did {best} × the work of one in the same time (with {threads}). "
        "More than one of 4 threads ran in {overlap}% of the time; one ran for {hold:.1f} ms until another did "
        "(median of {count:,}). Who woke up while another thread computed was {low:.1f} ms late with an interval of "
        "0.5 ms, {middle:.1f} ms with 5 ms, {high:.1f} ms with 50 ms.",
        "在这台机器上{how_zh}：2 到 8 个线程中最好的（{threads} 个），同样时间里完成的工作是一个线程的 {best} 倍。"
        "4 个线程中有两个或更多同时运行的时间占 {overlap}%；一个线程连续运行 {hold:.1f} 毫秒后轮到另一个"
        "（{count:,} 次的中位数）。别的线程正在计算时，醒来的线程在切换间隔为 0.5 毫秒时晚 {low:.1f} 毫秒，"
        "5 毫秒时晚 {middle:.1f} 毫秒，50 毫秒时晚 {high:.1f} 毫秒。",
    ).filled(
        **how(held),
        best=telling(found[best], NO_GAIN if machine.has_gil else NEARLY * min(machine.cores, 8), 2), threads=best,
        overlap=telling(overlap * 100, MOST_OVERLAP * 100, 1), hold=median(holds), count=len(holds),
        low=medians[0.5], middle=medians[5.0], high=medians[50.0],
    )  # fmt: skip
    figures = {"throughput": found[best], "overlap": overlap, "at a time": together, "hold ms": median(holds)}
    figures |= {f"late ms at {key:g} ms": value for key, value in medians.items()}
    return Verdict(held, joined(text, *checks), figures)


def _checks(machine: Machine, best: float, overlap: float, together: float, late: dict[float, float]) -> list[Text]:
    """What was not as predicted."""
    if machine.has_gil:
        is_late = not all(interval / WITHIN <= late[interval] <= interval * WITHIN for interval in (5.0, 50.0))
        checks = [(best > NO_GAIN, _FASTER), (overlap > MOST_OVERLAP, _TOGETHER), (is_late, _LATE)]
    else:
        is_less = best < NEARLY * min(machine.cores, 8) or together < NEARLY * min(machine.cores, WATCHERS)
        checks = [(is_less, _TOO_FEW), (max(late.values()) > MOST_LATE_MS, _LATE_WITHOUT)]
    return [why for is_so, why in checks if is_so]


_FASTER = Text(
    "That more threads were faster under a GIL is not the work itself: it may be that one thread alone was disturbed.",
    "有 GIL 时线程多反而更快，原因不会是工作本身：可能是只用一个线程的那几次受到了干扰。",
)
_TOGETHER = Text(
    "Two at a time cannot be: either stops were shorter than 0.2 ms and were not seen, or this Python has no GIL.",
    "两个线程不可能同时运行：要么有些停顿短于 0.2 毫秒而没有被察觉，要么这个 Python 没有 GIL。",
)
_LATE = Text(
    "The delays are not within half and twice the interval: the kernel's own delays add to it where other programs "
    "want the cores.",
    "延迟没有落在间隔的一半到两倍之间：如果别的程序也在争用这些核，内核自身的延迟也会加进来。",
)
_TOO_FEW = Text(
    "That is less than {nearly:.0%} of the cores: other programs may have wanted them, or the threads wrote to the "
    "same memory.",
    "这不到核数的 {nearly:.0%}：可能别的程序也要用这些核，也可能各线程在写同一块内存。",
).filled(nearly=NEARLY)
_LATE_WITHOUT = Text(
    "Without a GIL a thread that wakes up waits only for a core: others may have had them all.",
    "没有 GIL 时，醒来的线程只需要等一个核：可能当时所有的核都被占用了。",
)


def draw(machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    if found := throughputs(samples):
        most = 1.0 if machine.has_gil else float(machine.cores)
        name = Text("prediction: one at a time", "预测：同一时刻只有一个") if machine.has_gil else _UP_TO_CORES
        said = [(float(threads), Spread.exactly(min(threads, most))) for threads in found]
        plots.append(
            Lines(
                Text("The same work, divided among more threads", "同样的工作，分给更多的线程"),
                Axis(Text("threads", "线程数")),
                Axis(Text("throughput, relative to one thread", "吞吐量（相对一个线程）"), "×"),
                [
                    Series(Text("measured", "实测"), [(float(threads), spread) for threads, spread in found.items()]),
                    Series(name, said, Kind.THEORY),
                ],
            )
        )
    if samples.of(WHO):
        ran = samples.of(WHO)[0]["ran_ms"]
        lanes = [
            Lane(Text(f"thread {who}", f"线程 {who}"), [(a, min(b, DRAWN_MS)) for a, b in its if a < DRAWN_MS])
            for who, its in enumerate(ran, 1)
        ]
        title = _WHO_HELD if machine.has_gil else Text("Which threads ran when", "哪些线程在何时运行")
        plots.append(Timeline(title, Axis(Text("time", "时间"), "ms"), lanes))
    late = [(at, spread) for at in INTERVALS_MS if (spread := samples.spread(case_of(at), "late_ms")) is not None]
    if late:
        title = Text("How late a thread wakes up while another one computes", "别的线程计算时，醒来的线程晚多久")
        x = Axis(Text("switch interval", "切换间隔"), "ms", is_log=True)
        y = Axis(Text("late by", "唤醒延迟"), "ms", is_log=True)
        series = [Series(Text("measured", "实测"), late)]
        if machine.has_gil:
            name = Text("prediction: the interval", "预测：等于间隔")
            series.append(Series(name, [(at, Spread.exactly(at)) for at in INTERVALS_MS], Kind.THEORY))
        plots.append(Lines(title, x, y, series))
    return plots


_UP_TO_CORES = Text("prediction: as many as cores", "预测：等于核数为止")
_WHO_HELD = Text("Who held the GIL, and ran, when", "谁在何时持有 GIL 并在运行")


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [Text("what", "项目"), Text("median (lowest … highest)", "中位数（最小 … 最大）"), Text("of", "个数")]
    ran = [sample["ran_ms"] for sample in samples.of(WHO)]
    quantities: list[tuple[Text, Spread | None]] = [
        (Text(f"throughput, {n} threads, ×", f"吞吐量，{n} 个线程，倍"), it)
        for n, it in throughputs(samples).items()
        if n > 1
    ]
    holds = Spread.of(hold for each in ran for hold in lengths_of(each))
    overlap = Spread.of(overlap_of(each) * 100 for each in ran)
    quantities += [
        (Text("ran until another did, ms", "连续运行到轮到别人，毫秒"), holds),
        (Text("more than one ran, % of the time", "两个或更多同时运行，占时间 %"), overlap),
        (Text("threads at a time", "同时运行的线程数"), Spread.of(at_a_time(each) for each in ran)),
        (Text("late, nobody computes, ms", "唤醒延迟（没有线程在计算），毫秒"), samples.spread(ALONE, "late_ms")),
    ]
    for at in INTERVALS_MS:
        name = Text(f"late, interval {at:g} ms, ms", f"唤醒延迟（间隔 {at:g} 毫秒），毫秒")
        quantities.append((name, samples.spread(case_of(at), "late_ms")))
    return Table(
        columns, [[name, same(it.text(2)), same(f"{it.count:,}")] for name, it in quantities if it is not None]
    )


EXPERIMENT = Experiment(
    name="gil",
    question=Text("Why are threads not parallel?", "线程为什么不能并行？"),
    explains=Text(
        "CPython guards its objects by one lock, the GIL: only the thread that holds it executes Python code. A thread "
        "that wants it waits for the switch interval (5 ms, unless it was changed), then asks for it, and whoever "
        "holds it gives it up at the next opportunity. First a fixed amount of computing is divided among more and "
        "more threads. Then four threads read the clock without a pause and write down where it jumped by more than "
        "0.2 ms: between two jumps a thread ran, and so held the GIL. Last, a thread sleeps for 2 ms again and "
        "again while another one computes: how late does it wake up, with other switch intervals? A Python that "
        "was built without a GIL (free-threaded) is predicted, and judged, otherwise.",
        "CPython 用一把锁保护它的对象，这把锁就是 GIL：只有持有它的线程才能执行 Python 代码。"
        "想要它的线程先等一个切换间隔（默认 5 毫秒），然后提出请求，持有者在下一个合适的位置交出来。"
        "这里先把一份固定的计算分给越来越多的线程。"
        "然后让四个线程不停地看时钟，记下时钟跳过 0.2 毫秒以上的地方：两次跳跃之间，线程在运行，也就持有 GIL。"
        "最后，让一个线程反复睡 2 毫秒，同时另一个线程在计算：切换间隔不同时，它醒来会晚多久？"
        "对于不带 GIL 的 Python（自由线程版），预测和结论都不同。",
    ),
    shown=(piece_of_work, divide_among, watch_own_clock, how_late),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=6.0,
    full_s=47.0,
)
