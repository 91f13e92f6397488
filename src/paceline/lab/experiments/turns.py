"""Eight programs on one core: who runs when?

A program that reads the clock without a pause sees where it was stopped: there its clock jumps.  What lies between two
jumps is the time in which it ran.  All processes of a machine read the same monotonic clock, so the spans of all
programs can be laid side by side.  As a control the same programs are let loose on all cores.

Beside it stands an exact simulation of round robin with the length of turn that was found.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from statistics import median

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.plots import Axis, Bar, Bars, Kind, Lane, Plot, Timeline
from paceline.lab.samples import Samples
from paceline.lab.spans import (
    at_a_time,
    idle_of,
    in_ms,
    lengths_of,
    overlap_of,
    shares_of,
    turns_of,
    watch_own_clock,
)
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

PROGRAMS = 8

ONE, ALL = "one core", "all cores"

MOST_OVERLAP = 0.02
MOST_IDLE = 0.05
"""More than that is worth a word."""
WITHIN = 0.25
"""Each share may be a quarter more or less than an eighth."""
NEARLY = 0.8
"""Of the cores, let loose on all of them: that share of as many programs at a time."""
ROUNDS_DRAWN = 3


def run_beside_each_other(cores: set[int], seconds: float) -> list[list[tuple[int, int]]]:
    """Eight programs that may use only these cores, started together; when each of them ran, in nanoseconds."""
    import os
    import struct

    from paceline.clock import now_ns
    from paceline.lab.children import Children

    gate, key = os.pipe()

    def program() -> list[tuple[int, int]]:
        os.sched_setaffinity(0, cores)
        from_ns, until_ns = struct.unpack("qq", os.read(gate, 16))  # waits until the gate is opened
        return watch_own_clock(from_ns, until_ns)

    try:
        with Children([program] * PROGRAMS) as children:
            from_ns = now_ns() + 50_000_000  # in 50 ms: all have come through the gate by then
            os.write(key, struct.pack("qq", from_ns, from_ns + int(seconds * 1e9)) * PROGRAMS)
            return list(children.answers(within_s=seconds * 10 + 10))
    finally:
        os.close(gate)
        os.close(key)


def measure(study: Study) -> None:
    import os

    cores = os.sched_getaffinity(0)
    cases = [ONE, ALL] if len(cores) > 1 else [ONE]
    for round_, case in study.rounds(cases, quick=2, full=5):
        seconds = 0.1 if round_ == 0 else 0.7 if study.quick else 2.0
        chosen = {study.chance.choice(sorted(cores))} if case == ONE else cores
        ran = run_beside_each_other(chosen, seconds)
        study.note(
            case,
            round_,
            cores=sorted(chosen),
            lasted_ms=seconds * 1e3,
            ran_ms=in_ms(ran),
        )


# What the spans say


def others_between(turns: Sequence[tuple[int, float, float]]) -> list[int]:
    """Before each turn that is not somebody's first: how many different others ran since that one's turn before."""
    at: dict[int, int] = {}
    found = []
    for number, (who, _, _) in enumerate(turns):
        if who in at:
            found.append(len({other for other, _, _ in turns[at[who] + 1 : number]}))
        at[who] = number
    return found


def round_robin(order: Sequence[int], quantum: float, until: float) -> Iterator[tuple[int, float, float]]:
    """(who, from, to): the first of the queue runs for a quantum, then it goes to the end of the queue."""
    queue = deque(order)
    turn = 0
    while turn * quantum < until:
        who = queue.popleft()
        yield who, turn * quantum, min((turn + 1) * quantum, until)
        queue.append(who)
        turn += 1


def _lengths(samples: Samples) -> list[float]:
    """Of the turns on one core, in ms."""
    return [length for sample in samples.of(ONE) for length in lengths_of(sample["ran_ms"])]


def predict(machine: Machine) -> Prediction:
    most = min(machine.cores, PROGRAMS)
    loose = _LOOSE if machine.cores > 1 else same("")
    return Prediction(
        joined(
            Text(
                "One core runs one program at a time: they take turns, more than one runs in (nearly) 0% of the time "
                "(at most {overlap:.0%}), and each of the 8 gets 12.5% of it ({low:.1%} to {high:.1%}). Nobody waits "
                "for anybody else's end; that is what looks like running at the same time.",
                "一个核同一时刻只能运行一个程序：它们轮流运行，两个或更多同时运行的时间（几乎）为 0%（不超过 "
                "{overlap:.0%}），8 个程序各得 12.5%（{low:.1%} 到 {high:.1%}）。"
                "谁也不必等别人全部做完，所以看起来像是同时在运行。",
            ).filled(overlap=MOST_OVERLAP, low=(1 - WITHIN) / PROGRAMS, high=(1 + WITHIN) / PROGRAMS),
            loose.filled(most=most, nearly=NEARLY),
        ),
        {"share": 1 / PROGRAMS, "overlap": 0.0, "at a time on all cores": most},
    )


_LOOSE = Text(
    "Let loose on all cores of this machine, {most} run at a time ({nearly:.0%} of that at least).",
    "如果放开到本机的所有核上，则同一时刻有 {most} 个在运行（至少达到它的 {nearly:.0%}）。",
)


def judge(machine: Machine, samples: Samples) -> Verdict:
    found = [sample["ran_ms"] for sample in samples.of(ONE)]
    loose = Spread.of(at_a_time(sample["ran_ms"]) for sample in samples.of(ALL))
    lengths = _lengths(samples)
    between = [count for ran in found for count in others_between(turns_of(ran))]
    if not lengths or not between or (loose is None and machine.cores > 1):
        return Verdict.unknown()
    overlap = max(overlap_of(ran) for ran in found)
    shares = [share for ran in found for share in shares_of(ran)]
    all_others = between.count(PROGRAMS - 1) / len(between)
    idle = max(idle_of(ran) for ran in found)
    enough = NEARLY * min(machine.cores, PROGRAMS)
    checks = [
        (overlap <= MOST_OVERLAP, _TOGETHER),
        (min(shares) >= (1 - WITHIN) / PROGRAMS and max(shares) <= (1 + WITHIN) / PROGRAMS, _UNEQUAL),
        (loose is None or loose.median >= enough, _FEWER),
    ]
    reasons = [why for is_so, why in checks if not is_so]
    text = Text(
        "{how} here: more than one ran in {overlap}% of the time, and each got {low:.1%} to {high:.1%} (an eighth "
        "is 12.5%). A turn lasted {turn:.1f} ms (median of {count:,}). In {others:.0%} of all cases each of the 7 "
        "others ran before a program ran again; in exact round robin it would be 100%.",
        "在这台机器上{how_zh}：两个或更多程序同时运行的时间占 {overlap}%，每个程序得到 {low:.1%} 到 {high:.1%}"
        "（八分之一是 12.5%）。一个时间片长 {turn:.1f} 毫秒（{count:,} 个的中位数）。在 {others:.0%} 的情况下，"
        "一个程序再次运行之前，其余 7 个都已运行过；严格的轮转调度应为 100%。",
    ).filled(
        **how(not reasons), overlap=telling(overlap * 100, MOST_OVERLAP * 100, 1),
        low=min(shares), high=max(shares), turn=median(lengths), count=len(lengths), others=all_others,
    )  # fmt: skip
    figures = {
        "overlap": overlap, "turn ms": median(lengths), "least share": min(shares), "all others first": all_others,
    }  # fmt: skip
    if loose is not None:
        figures["at a time on all cores"] = loose.median
        text = joined(text, _RAN.filled(loose=telling(loose.median, enough, 2)))
    aside = _IDLE.filled(idle=idle) if idle > MOST_IDLE else same("")
    return Verdict(not reasons, joined(text, aside, *reasons), figures)


_RAN = Text(
    "Let loose on all cores, {loose} ran at a time.",
    "放开到所有核上时，同一时刻有 {loose} 个在运行。",
)
_IDLE = Text(
    "In {idle:.0%} of the time the core ran none of the eight: other programs, or other virtual machines on the same "
    "processor, may have had it.",
    "有 {idle:.0%} 的时间，这个核没有运行这八个程序中的任何一个：可能是别的程序，或同一处理器上的别的虚拟机在用它。",
)
_TOGETHER = Text(
    "Programs of one core cannot run at the same time: either they were not kept to one, or many stops were shorter "
    "than 0.2 ms, and were not seen.",
    "同一个核上的程序不可能同时运行：要么它们没有被限制在一个核上，要么许多停顿短于 0.2 毫秒，没有被察觉。",
)
_UNEQUAL = Text(
    "The shares differ by more than a quarter: the time may have been too short for evening them out, or the kernel "
    "was told to prefer some.",
    "各份额相差超过四分之一：可能时间太短，来不及拉平，也可能内核被设置为优先照顾其中一些。",
)
_FEWER = Text(
    "On all cores fewer ran at a time than there are cores: others may have wanted them, too.",
    "放开到所有核上时，同时运行的程序比核少：可能还有别的程序也要用这些核。",
)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    lengths = _lengths(samples)
    if not lengths:
        return []
    quantum = median(lengths)
    turns = turns_of(samples.of(ONE)[0]["ran_ms"])
    window = ROUNDS_DRAWN * PROGRAMS * quantum
    # not from the very start, where the programs have only just been let go; if there is that much
    first = turns[min(2 * PROGRAMS, len(turns) // 2)][1]
    seen = [
        (who, max(begun - first, 0.0), min(ended - first, window))
        for who, begun, ended in turns
        if ended > first and begun - first < window
    ]
    order = list(dict.fromkeys([who for who, _, _ in seen] + list(range(PROGRAMS))))
    axis = Axis(Text("time", "时间"), "ms")
    plots: list[Plot] = [
        Timeline(Text("Measured: who ran when, on one core", "实测：单核上谁在何时运行"), axis, _lanes(seen)),
        Timeline(
            Text(
                f"Simulated: round robin with turns of {quantum:.2f} ms",
                f"模拟：时间片为 {quantum:.2f} 毫秒的轮转调度",
            ),
            axis,
            _lanes(list(round_robin(order, quantum, window))),
            Kind.SIMULATED,
        ),
        Bars(
            Text("What each program got of the core", "每个程序得到的核时间"),
            Axis(Text("share of the time of all eight", "占八个程序总时间的比例"), "%"),
            [Bar(_name(who), spread) for who, spread in enumerate(_shares(samples))],
        ),
    ]
    if samples.of(ALL):
        title = Text("How many of the eight ran at a time", "八个程序中同一时刻有几个在运行")
        bars = [Bar(NAMES[case], Spread.of(at_a_time(each["ran_ms"]) for each in samples.of(case))) for case in NAMES]
        plots.append(Bars(title, Axis(Text("programs, on average", "程序数（平均）")), bars))
    return plots


NAMES = {ONE: Text("kept to one core", "限制在一个核上"), ALL: Text("let loose on all cores", "放开到所有核上")}


def _name(who: int) -> Text:
    return Text(f"program {who + 1}", f"程序 {who + 1}")


def _lanes(turns: Sequence[tuple[int, float, float]]) -> list[Lane]:
    spans: list[list[tuple[float, float]]] = [[] for _ in range(PROGRAMS)]
    for who, begun, ended in turns:
        spans[who].append((begun, ended))
    return [Lane(_name(who), its) for who, its in enumerate(spans)]


def _shares(samples: Samples) -> list[Spread | None]:
    """In percent, of each program."""
    rounds = [shares_of(sample["ran_ms"]) for sample in samples.of(ONE)]
    return [Spread.of(shares[who] * 100 for shares in rounds) for who in range(PROGRAMS)]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [Text("what", "项目"), Text("median (lowest … highest)", "中位数（最小 … 最大）"), Text("of", "个数")]
    ran = {case: [sample["ran_ms"] for sample in samples.of(case)] for case in (ONE, ALL)}
    idle = [idle_of(each) * 100 for each in ran[ONE]]
    quantities: list[tuple[Text, list[float], int]] = [
        (Text("a turn on one core, ms", "单核上一个时间片，毫秒"), _lengths(samples), 2),
        (
            Text("from a turn of a program to its next one, ms", "同一程序两次运行之间的间隔，毫秒"),
            [wait for each in ran[ONE] for wait in waits_of(turns_of(each))],
            1,
        ),
        (
            Text("share of a program, %", "每个程序的份额，%"),
            [share * 100 for each in ran[ONE] for share in shares_of(each)],
            1,
        ),
        (
            Text("more than one ran, % of the time", "两个或更多同时运行，占时间 %"),
            [overlap_of(each) * 100 for each in ran[ONE]],
            2,
        ),
        (Text("none of them ran, % of the time", "一个也没有运行，占时间 %"), idle, 2),
        (Text("programs at a time, one core", "同时运行的程序数，单核"), [at_a_time(each) for each in ran[ONE]], 2),
        (Text("programs at a time, all cores", "同时运行的程序数，所有核"), [at_a_time(each) for each in ran[ALL]], 2),
    ]
    rows = []
    for name, values, digits in quantities:
        spread = Spread.of(values)
        if spread is not None:
            rows.append([name, same(spread.text(digits)), same(f"{spread.count:,}")])
    return Table(columns, rows)


def waits_of(turns: Sequence[tuple[int, float, float]]) -> list[float]:
    """From the end of a turn to the beginning of the next one of the same program."""
    ended_at: dict[int, float] = {}
    waits = []
    for who, begun, ended in turns:
        if who in ended_at:
            waits.append(begun - ended_at[who])
        ended_at[who] = ended
    return waits


EXPERIMENT = Experiment(
    name="turns",
    question=Text("Eight programs on one core: who runs when?", "八个程序、一个核：谁在什么时候运行？"),
    explains=Text(
        "A core carries out one stream of instructions. When eight programs want to run on it, the kernel lets one run "
        "for a time slice of some milliseconds, stops it by a timer interrupt, and lets another one run. Nothing tells "
        "a program that it was stopped; only its clock seems to jump. So here eight programs do nothing but read the "
        "clock, and write down where it jumped by more than 0.2 ms: what lies between two jumps is a time slice. "
        "The textbook's rule is round robin: a queue, and everybody the same quantum. The kernel of Linux does not "
        "keep such a queue: it picks whoever has had least of what is due (CFS, since 6.6 EEVDF), which for eight "
        "equal programs comes close to it. Compare the two pictures.",
        "一个核只能执行一条指令流。当八个程序都想在它上面运行时，内核让其中一个运行几毫秒（一个时间片），"
        "用定时器中断把它停下来，再让另一个运行。没有人告诉程序它被停过，它只会发现时钟好像跳了一下。"
        "因此，这里的八个程序什么也不做，只是不停地看时钟，并记下时钟跳过 0.2 毫秒以上的地方："
        "两次跳跃之间就是一个时间片。教科书上的规则是轮转调度：排成一队，每人用同样长的时间片。"
        "Linux 内核并不维护这样的队列，而是挑选得到的时间比应得的少得最多的程序（CFS，6.6 版起为 EEVDF）；"
        "对八个同等的程序来说，结果与轮转很接近。请比较这两张图。",
    ),
    shown=(watch_own_clock, run_beside_each_other, round_robin),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=3.5,
    full_s=22.0,
)
