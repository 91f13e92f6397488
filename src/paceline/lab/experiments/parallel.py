"""What does parallel execution need?  Cores: the same work, divided among more and more processes.

The work is pure Python, cut into many small pieces that lie in a pipe, a byte each; every process takes one piece after
the other until there are none, so that none is left waiting because its share was larger.  Processes are made before
the clock is started.  The amount is chosen so that one process needs a fixed time for it.

Two laws are fitted by least squares.  Amdahl (1967): a share s of the work cannot be divided, so the speed-up is
1 / (s + (1 - s) / n).  Universal Scalability Law (Gunther 1993): n / (1 + α (n - 1) + β n (n - 1)), with α for what is
waited for, β for what is to be agreed on by each pair.  Neither knows how many cores there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from paceline.lab.computing import piece_of_work
from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Kind, Lines, Plot, Series
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

PIECES, LEAST_PIECES = 200, 50
"""The work is cut into so many, and into so many for each core at least."""
LEAST_S = 0.05
"""As many processes as cores have so much to do, at least."""
QUICK_LONGEST_S, FULL_LONGEST_S = 15.0, 90.0
"""No case is begun later than that, from the second round on."""

NEARLY = 0.8
"""That share of the cores, as a speed-up, counts as all of them."""
TOO_MUCH = 1.25
"""More than so many times the cores is more than they can do."""
PLATEAU = 1.15
"""With more processes than cores, so much above the speed-up at the cores still counts as no gain."""

Point = tuple[float, float]
"""(processes, speed-up)."""


def take_pieces(pieces: int, steps: int) -> float:
    """A worker: takes one piece of work after the other, until there are none; how much processor time it got."""
    import os

    from paceline.clock import process_cpu

    begun_s = process_cpu()
    while os.read(pieces, 1):
        piece_of_work(steps)
    return process_cpu() - begun_s


def divide_among(processes: int, count: int, steps: int) -> tuple[float, float]:
    """Do `count` pieces of work in so many processes: how long it took, and how much processor time."""
    import os

    from paceline.clock import now
    from paceline.lab.children import Children

    pieces, heap = os.pipe()

    def worker() -> list[float]:
        os.close(heap)
        spent_s = take_pieces(pieces, steps)
        return [now(), spent_s]

    try:
        with Children([worker] * processes) as children:
            begun_s = now()
            os.write(heap, bytes(count))  # they all wait for it
            os.close(heap)
            heap = -1
            ended = children.answers(within_s=120)
    finally:
        os.close(pieces)
        if heap >= 0:
            os.close(heap)
    return max(at_s for at_s, _ in ended) - begun_s, sum(spent_s for _, spent_s in ended)


def numbers_of(cores: int) -> list[int]:
    """Of processes, from 1 to twice the cores: all, or on a large machine some."""
    if cores <= 4:
        return list(range(1, 2 * cores + 1))
    return sorted({1, 2, cores // 4, cores // 2, cores * 3 // 4, cores, cores * 3 // 2, cores * 2})


def measure(study: Study) -> None:
    from paceline.clock import now
    from paceline.lab.computing import amount_for

    cores = study.machine.cores
    count = max(PIECES, LEAST_PIECES * cores)
    steps = amount_for(piece_of_work, max(0.4 if study.quick else 1.5, LEAST_S * cores) / count)
    study.settings(pieces=count, steps=steps)
    until_s = now() + (QUICK_LONGEST_S if study.quick else FULL_LONGEST_S)
    for round_, processes in study.rounds(numbers_of(cores), quick=4, full=8):
        if round_ > 1 and now() > until_s:
            break  # others want this machine so much that the rest would take too long
        took_s, cpu_s = divide_among(processes, count if round_ else count // 5, steps)
        study.note(str(processes), round_, processes=processes, took_s=took_s, cpu_s=cpu_s)


# Laws


def amdahl(processes: float, serial: float) -> float:
    return 1 / (serial + (1 - serial) / processes)


def usl(processes: float, contention: float, coherence: float) -> float:
    return processes / (1 + contention * (processes - 1) + coherence * processes * (processes - 1))


def fit_amdahl(points: Sequence[Point]) -> float | None:
    """The serial share, by least squares of 1/S = 1/n + s (1 - 1/n), a line in s; None without points beyond 1."""
    lines = [(1 - 1 / n, 1 / speedup - 1 / n) for n, speedup in points if n > 1]
    below = sum(x * x for x, _ in lines)
    return min(1.0, max(0.0, sum(x * y for x, y in lines) / below)) if below else None


def fit_usl(points: Sequence[Point]) -> tuple[float, float] | None:
    """(α, β), both at least 0, by least squares of n/S - 1 = α (n - 1) + β n (n - 1); None with too few points."""
    rows = [(n - 1, n * (n - 1), n / speedup - 1) for n, speedup in points if n > 1]
    aa, ab, bb = (sum(x * y for x, y in pairs) for pairs in (
        [(a, a) for a, _, _ in rows], [(a, b) for a, b, _ in rows], [(b, b) for _, b, _ in rows]
    ))  # fmt: skip
    ay, by = sum(a * y for a, _, y in rows), sum(b * y for _, b, y in rows)
    determinant = aa * bb - ab * ab
    if len(rows) < 2 or determinant <= 0:
        return None
    contention, coherence = (ay * bb - by * ab) / determinant, (by * aa - ay * ab) / determinant
    if coherence < 0:
        return max(0.0, ay / aa), 0.0
    if contention < 0:
        return 0.0, max(0.0, by / bb)
    return contention, coherence


def misfit(points: Sequence[Point], law: Sequence[float]) -> float:
    """The root of the mean square of what a law's values are off."""
    return sqrt(sum((speedup - said) ** 2 for (_, speedup), said in zip(points, law, strict=True)) / len(points))


@dataclass(frozen=True, slots=True)
class Fits:
    """The laws through the points, and how far off each is."""

    serial: float
    contention: float
    coherence: float
    amdahl_off: float
    usl_off: float

    @staticmethod
    def through(points: Sequence[Point]) -> "Fits | None":
        serial, law = fit_amdahl(points), fit_usl(points)
        if serial is None or law is None:
            return None
        off = misfit(points, [amdahl(n, serial) for n, _ in points]), misfit(points, [usl(n, *law) for n, _ in points])
        return Fits(serial, *law, *off)


def speedups(samples: Samples) -> dict[int, Spread]:
    """By the number of processes: how many times faster than one process, round by round."""
    found = {}
    for processes in sorted({sample["processes"] for sample in samples}):
        spread = samples.ratio("took_s", "1", str(processes))
        if spread is not None:
            found[processes] = spread
    return found


def points_of(samples: Samples) -> list[Point]:
    return [(float(processes), spread.median) for processes, spread in speedups(samples).items()]


# Prediction and verdict


def predict(machine: Machine) -> Prediction:
    return Prediction(
        Text(
            "A core does one thing at a time, and this machine has {cores}: the work is done up to {cores} × as fast "
            "as by one process, with {cores} (at least {nearly:.0%} of that), and more processes than that make it no "
            "faster (by at most {more:.0%}). Each process has a Python of its own, so it does not matter that this one "
            "has {gil} GIL.",
            "一个核同一时刻只做一件事，这台机器有 {cores} 个核：用 {cores} 个进程时，速度最多是一个进程的 {cores} 倍"
            "（至少达到它的 {nearly:.0%}），再多的进程也不会更快（最多快 {more:.0%}）。"
            "每个进程有自己的 Python，因此这个 Python {gil_zh} GIL 并不影响结果。",
        ).filled(
            cores=machine.cores,
            nearly=NEARLY,
            more=PLATEAU - 1,
            gil="a" if machine.has_gil else "no",
            gil_zh="有" if machine.has_gil else "没有",
        ),
        {"speed-up": float(machine.cores)},
    )


def judge(machine: Machine, samples: Samples) -> Verdict:
    found, cores = speedups(samples), machine.cores
    beyond = {processes: spread.median for processes, spread in found.items() if processes > cores}
    if cores not in found or not beyond:
        return Verdict.unknown()
    at_cores, most = found[cores].median, max(beyond, key=lambda processes: beyond[processes])
    is_full, is_flat = at_cores >= NEARLY * cores, beyond[most] <= PLATEAU * at_cores
    is_too_much = at_cores > TOO_MUCH * cores
    held = is_full and is_flat and not is_too_much
    text = Text(
        "{how} here: with {cores} the work was done {at_cores} × as fast as with one process (predicted: {cores}), "
        "and the best with more was {beyond:.2f} ×, with {most}.",
        "在这台机器上{how_zh}：用 {cores} 个进程时，速度是一个进程的 {at_cores} 倍（预测为 {cores} 倍）；"
        "进程数更多时，最好的是 {most} 个，为 {beyond:.2f} 倍。",
    ).filled(
        **how(held),
        cores=cores, at_cores=telling(at_cores, NEARLY * cores, 2), beyond=beyond[most], most=most,
    )  # fmt: skip
    figures = {"speed-up at the cores": at_cores, "best beyond": beyond[most]}
    text = joined(text, *_why(samples, cores, is_full, is_flat), _TOO_MUCH if is_too_much else same(""))
    if (fits := Fits.through(points_of(samples))) is not None:
        figures |= {"Amdahl s": fits.serial, "USL α": fits.contention, "USL β": fits.coherence}
    return Verdict(held, text, figures)


def _why(samples: Samples, cores: int, is_full: bool, is_flat: bool) -> Sequence[Text]:
    """What was measured beside it that bears on a prediction that did not hold."""
    busy, dearer = cores_had(samples, cores), dearer_by(samples, cores)
    found = []
    if not is_full and busy is not None and busy.median < 0.9 * cores:
        found.append(_NOT_ALL_TIME.filled(busy=busy.median, cores=cores))
    if not is_full and dearer is not None and dearer.median > 1.1:
        found.append(_DEARER.filled(dearer=dearer.median - 1))
    if not is_flat:
        found.append(_NOT_FLAT)
    return found


_NOT_ALL_TIME = Text(
    "Of {cores} cores they were given {busy:.2f} cores' worth of processor time: other programs may have wanted them, "
    "there may be a limit, or some found the heap empty before the others were done.",
    "{cores} 个核中，它们只得到相当于 {busy:.2f} 个核的处理器时间：可能别的程序也在争用，可能设有配额限制，"
    "也可能有的进程先取不到工作了。",
)
_DEARER = Text(
    "The same work took {dearer:.0%} more processor time than in one process: each core was slower while the others "
    "were at work (two logical cores that are one physical core, a lower clock, or shared memory may do that).",
    "同样的工作比只用一个进程时多用了 {dearer:.0%} 的处理器时间：别的核也在工作时，每个核都变慢了"
    "（两个逻辑核同属一个物理核、降频、共用内存都可能造成这种情况）。",
)
_TOO_MUCH = Text(
    "That is more than the cores can do: the one process must have been slowed down by something that did not meet the "
    "others; measure again.",
    "这超过了这些核所能做到的：一个进程单独运行时一定受到了别处没有的干扰，请再测一次。",
)
_NOT_FLAT = Text(
    "More processes than cores were faster still: if others want the cores, too, more processes get a larger share.",
    "进程数超过核数后仍然更快：如果别的程序也在争用这些核，进程多的一方得到的份额就更大。",
)


def cores_had(samples: Samples, processes: int) -> Spread | None:
    """How many cores' worth of processor time so many processes had."""
    return Spread.of(sample["cpu_s"] / sample["took_s"] for sample in samples.of(str(processes)))


def dearer_by(samples: Samples, processes: int) -> Spread | None:
    """The processor time of all together, by that of one process for the same work."""
    return samples.ratio("cpu_s", str(processes), "1")


def draw(machine: Machine, samples: Samples) -> Sequence[Plot]:
    found = speedups(samples)
    if not found:
        return []
    last = max(*found, machine.cores)
    curve = [1 + (last - 1) * step / 40 for step in range(41)] if last > 1 else [1.0]
    series = [
        Series(Text("measured", "实测"), [(float(processes), spread) for processes, spread in found.items()]),
        Series(
            Text("prediction: as many as cores", "预测：等于核数为止"),
            [(n, Spread.exactly(min(n, float(machine.cores)))) for n in sorted({*curve, float(machine.cores)})],
            Kind.THEORY,
        ),
    ]
    fits = Fits.through(points_of(samples))
    if fits is not None:
        series += [
            Series(
                Text("Amdahl, s = {s:.3f} (off by {off:.2f})", "阿姆达尔定律，s = {s:.3f}（偏差 {off:.2f}）").filled(
                    s=fits.serial, off=fits.amdahl_off
                ),
                [(n, Spread.exactly(amdahl(n, fits.serial))) for n in curve],
                Kind.THEORY,
            ),
            Series(
                Text(
                    "USL, α = {a:.3f}, β = {b:.4f} (off by {off:.2f})",
                    "通用扩展定律（USL），α = {a:.3f}，β = {b:.4f}（偏差 {off:.2f}）",
                ).filled(a=fits.contention, b=fits.coherence, off=fits.usl_off),
                [(n, Spread.exactly(usl(n, fits.contention, fits.coherence))) for n in curve],
                Kind.THEORY,
            ),
        ]
    title = Text("The same work, divided among more processes", "同样的工作，分给更多的进程")
    x, y = Axis(Text("processes", "进程数")), Axis(Text("speed-up over one process", "相对一个进程的加速比"), "×")
    return [Lines(title, x, y, series)]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("processes", "进程数"), Text("took, s", "用时，秒"), Text("speed-up", "加速比"),
        Text("processor time of all, s", "处理器时间合计，秒"), Text("cores had", "得到的核数"),
    ]  # fmt: skip
    rows = []
    for processes, speedup in speedups(samples).items():
        case = str(processes)
        cells = [
            samples.spread(case, "took_s"), speedup, samples.spread(case, "cpu_s"), cores_had(samples, processes)
        ]  # fmt: skip
        rows.append([same(case), *(same(spread.text(2) if spread else "") for spread in cells)])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="parallel",
    question=Text("What does parallel execution need?", "并行执行需要什么？"),
    explains=Text(
        "Turn-taking makes eight programs seem to run at once, but does not make the work done sooner. For that, more "
        "than one core has to work at the same moment. Here a fixed amount of pure computing, cut into many small "
        "pieces, is done by 1, 2, 3 … processes, up to twice the cores; all take their pieces from one heap. The "
        "speed-up is the time one process needs, divided by the time all of them need. "
        "Two laws are drawn through the points. Amdahl's says that a share s of the work cannot be divided; the "
        "Universal Scalability Law adds that workers wait for each other (α) and must agree with each other (β). "
        "Neither knows of cores: fitted over the bend at the cores, s, α and β describe the curve, and are no property "
        "of this work, of which nearly all can be divided. How far each curve is off the points (root mean square) is "
        "in its name.",
        "轮流运行让八个程序看起来像在同时运行，但工作并不会因此早点做完。要早点做完，就得有不止一个核在同一时刻工作。"
        "这里把一份固定的纯计算工作切成许多小块，由 1、2、3……个进程来做，一直到核数的两倍；"
        "所有进程都从同一堆里取。加速比等于一个进程所需的时间除以它们一起所需的时间。"
        "图中有两条定律的曲线穿过这些点：阿姆达尔定律认为工作中有比例为 s 的部分无法分割；"
        "通用扩展定律（USL）还考虑了互相等待（α）和互相协调（β）。两者都不知道有多少个核："
        "曲线在核数处转弯，拟合出的 s、α、β 只是描述这条曲线，并不是这份工作本身的性质——它几乎可以全部分割。"
        "每条曲线与各点相差多少（均方根偏差），写在它的名字里。",
    ),
    shown=(piece_of_work, take_pieces, divide_among),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=5.0,
    full_s=33.0,
)
