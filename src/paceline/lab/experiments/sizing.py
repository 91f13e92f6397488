"""How many workers, how many threads?  The throughput of Paceline over both, for three kinds of calls, and the formula.

A server runs for each pair of workers and threads; a few clients load one of them at a time with one kind of call.  The
formula is marked at the nearest pair that was measured: workers = cores; threads = 1 + W / C, where C is what a call
computes and W what it waits.  What a call costs beside that, on its way through the server and its clients, is not in
C, as it would not be for somebody who reads the handler; calls that only wait have no C at all, and then the formula
says: as many threads as there may be callers.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import repeat

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict
from paceline.lab.peers import answer, compute
from paceline.lab.plots import Axis, Heat, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

CLIENTS = 32
MANY_CORES = 4
FOR_EVER = 1 << 30
"""Clients do not leave."""
MOST_AT_ONCE = 64
"""So many workers of all servers together run at the same time, at most."""
NEAR = 0.8
"""Predicted: what the formula chooses does at least this share of the best pair that was measured."""

WAIT, COMPUTE, HALF = "wait", "compute", "half"
COSTS_MS = {WAIT: (0.0, 5.0), COMPUTE: (1.0, 0.0), HALF: (1.0, 1.0)}
"""What a call computes and what it waits."""
KINDS = {
    WAIT: Text("calls that wait 5 ms", "等待 5 毫秒的调用"),
    COMPUTE: Text("calls that compute 1 ms", "计算 1 毫秒的调用"),
    HALF: Text("calls that compute 1 ms and wait 1 ms", "计算 1 毫秒、等待 1 毫秒的调用"),
}
SHORT = {WAIT: Text("wait", "等待"), COMPUTE: Text("compute", "计算"), HALF: Text("both", "两者")}
"""The kinds in a table."""

Pair = tuple[int, int]
"""Workers, threads of each."""


def pairs_of(cores: int, *, quick: bool) -> list[Pair]:
    """Which pairs are measured: fewer on a machine with many cores, since all their workers exist at once."""
    is_small = cores <= MANY_CORES
    workers = {1, cores, 2 * cores} if is_small and not quick else {1, max(2, cores)}
    return [(many, threads) for many in sorted(workers) for threads in (_FULL if is_small and not quick else _QUICK)]


_QUICK, _FULL = (1, 2, 8), (1, 2, 4, 8, 16)


def threads_by_formula(computes_ms: float, waits_ms: float) -> float:
    """So many threads keep one core busy: while one computes, the others wait."""
    return 1 + waits_ms / computes_ms if computes_ms else float(CLIENTS)


def case_of(kind: str, pair: Pair) -> str:
    return f"{kind} {pair[0]}x{pair[1]}"


def groups_of(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Whose servers run at the same time, so that their rounds alternate: all, or those with as many workers."""
    if sum(workers for workers, _ in pairs) <= MOST_AT_ONCE:
        return [list(pairs)]
    return [[pair for pair in pairs if pair[0] == workers] for workers in sorted({workers for workers, _ in pairs})]


def measure(study: Study) -> None:
    from paceline.lab.computing import amount_for

    loops = amount_for(compute, 0.001)
    messages = {
        WAIT: b"wait %d" % round(COSTS_MS[WAIT][1] * 1e3),
        COMPUTE: b"compute %d" % round(loops * COSTS_MS[COMPUTE][0]),
        HALF: b"both %d %d" % (round(loops * COSTS_MS[HALF][0]), round(COSTS_MS[HALF][1] * 1e3)),
    }
    for_s = 0.12 if study.quick else 0.5
    study.settings(clients=CLIENTS, for_s=for_s)
    groups = groups_of(pairs_of(study.machine.cores, quick=study.quick))
    parts = [(kind, group) for kind in KINDS for group in groups]
    for number, (kind, group) in enumerate(parts):
        study.part(number / len(parts), (number + 1) / len(parts))
        _measure_group(study, kind, group, messages[kind], for_s)


def _measure_group(study: Study, kind: str, pairs: Sequence[Pair], message: bytes, for_s: float) -> None:
    """New servers for each kind: threads that another kind has made would be there still."""
    from paceline.lab.load import closed
    from paceline.lab.starting import paceline, serving

    with ExitStack() as stack:
        servers = {pair: stack.enter_context(serving(paceline(*pair))) for pair in pairs}
        for round_, pair in study.rounds(pairs, quick=2, full=3):
            server = servers[pair]
            before_s = server.cpu_s()
            ran = closed(
                server.address,
                CLIENTS,
                repeat(message).__next__,
                calls=FOR_EVER,
                for_s=for_s if round_ else for_s / 2,
            )
            busy_s = server.cpu_s() - before_s
            study.note(
                case_of(kind, pair), round_, kind=kind, workers=pair[0], threads=pair[1],
                calls_per_s=len(ran.answered_ms) / ran.took_s, p99_ms=ran.percentile_ms(99), lost=ran.lost,
                server_busy=busy_s / ran.took_s, clients_busy=ran.cpu_s / ran.took_s,
            )  # fmt: skip


# What the samples say


def surface(samples: Samples, kind: str) -> dict[Pair, Spread]:
    """Calls in a second of each pair that was measured."""
    found = {}
    for sample in samples:
        if sample["kind"] == kind and (spread := samples.spread(sample["case"], "calls_per_s")) is not None:
            found[int(sample["workers"]), int(sample["threads"])] = spread
    return dict(sorted(found.items()))


def chosen(machine: Machine, kind: str, pairs: Sequence[Pair]) -> Pair:
    """What the formula says, or the nearest that was measured: first of the workers, then of the threads."""
    threads = threads_by_formula(*COSTS_MS[kind])
    return min(pairs, key=lambda pair: (abs(pair[0] - machine.cores), abs(pair[1] - threads), pair))


def best(found: dict[Pair, Spread]) -> Pair:
    return max(found, key=lambda pair: found[pair].median)


def smallest_near(found: dict[Pair, Spread]) -> Pair:
    """The fewest threads in all, and of these the fewest workers, that do nearly as much as the best."""
    enough = NEAR * found[best(found)].median
    return min((pair for pair in found if found[pair].median >= enough), key=lambda pair: (pair[0] * pair[1], pair))


def predict(machine: Machine) -> Prediction:
    half = threads_by_formula(*COSTS_MS[HALF])
    return Prediction(
        joined(
            Text(
                "As many workers as cores, here {cores}; threads = 1 + W / C: 1 for calls that only compute, {half:g} "
                "for those that wait as long as they compute, and as many as there are callers for those that only "
                "wait. For each kind this does at least {near:.0%} of what the best pair does that was measured.",
                "工作进程数等于核数，这里是 {cores}；线程数 = 1 + W / C：只计算的调用用 1 个，"
                "等待与计算一样长的用 {half:g} 个，只等待的则有多少调用者就用多少个。"
                "对每一类调用，这样选择至少达到所测各组合中最好者的 {near:.0%}。",
            ).filled(cores=machine.cores, half=half, near=NEAR),
            same("") if machine.has_gil else _NO_GIL,
        ),
        {"workers": machine.cores, "threads, half and half": half, "at least": NEAR},
    )


_NO_GIL = Text(
    "Without a GIL the threads of one worker compute in parallel, too, so fewer workers may do as much: the formula is "
    "enough, but no longer the least.",
    "没有 GIL 时，一个工作进程的多个线程也能并行计算，因此较少的工作进程也可能够用："
    "公式给出的数目足够，但不再是最少的。",
)


def judge(machine: Machine, samples: Samples) -> Verdict:
    surfaces = {kind: surface(samples, kind) for kind in KINDS}
    if any(len(found) < 2 for found in surfaces.values()):
        return Verdict.unknown()
    shares, sentences = {}, []
    for kind, found in surfaces.items():
        ours, most, least = chosen(machine, kind, list(found)), best(found), smallest_near(found)
        by_round = samples.ratio("calls_per_s", case_of(kind, ours), case_of(kind, most))
        shares[kind] = found[ours].median / found[most].median if by_round is None else by_round.median
        sentences.append(
            Text(
                "For {kind} the formula chose {ours}, {rate:,.0f} in a second, {share}% of the best ({most}, "
                "{top:,.0f}); the smallest that is near the best was {least}.",
                "对{kind_zh}，公式选 {ours}，每秒 {rate:,.0f} 次，"
                "是最好者（{most}，{top:,.0f} 次）的 {share}%；接近最好者的最小组合是 {least}。",
            ).filled(
                kind=KINDS[kind].en, kind_zh=KINDS[kind].zh, ours=_said(ours), rate=found[ours].median,
                share=telling(shares[kind] * 100, NEAR * 100, 0), most=_said(most), top=found[most].median,
                least=_said(least),
            )
        )  # fmt: skip
    wrong = [kind for kind, share in shares.items() if share < NEAR]
    text = Text("It held here (workers × threads).", "在这台机器上公式成立（工作进程 × 线程）。")
    if wrong:
        text = Text(
            "It did not hold here for " + ", ".join(KINDS[kind].en for kind in wrong) + " (workers × threads).",
            "在这台机器上公式不成立：" + "、".join(KINDS[kind].zh for kind in wrong) + "（工作进程 × 线程）。",
        )
    reasons = [_why(machine, samples, kind, list(surfaces[kind])) for kind in wrong]
    return Verdict(
        not wrong, joined(text, *sentences, *reasons), {f"of the best, {kind}": share for kind, share in shares.items()}
    )


def _why(machine: Machine, samples: Samples, kind: str, pairs: Sequence[Pair]) -> Text:
    """What was measured beside it where the formula was wrong."""
    ours = chosen(machine, kind, pairs)
    server, clients = (samples.spread(case_of(kind, ours), who) for who in ("server_busy", "clients_busy"))
    if server is None or clients is None:
        return same("")
    said = Text(
        "With {ours} for {kind} the workers had {server:.1f} of {cores} cores, and the clients {clients:.1f}.",
        "对{kind_zh}选 {ours} 时，{cores} 个核中，工作进程用了 {server:.1f} 个，客户端用了 {clients:.1f} 个。",
    ).filled(
        ours=_said(ours), kind=KINDS[kind].en, kind_zh=KINDS[kind].zh, cores=machine.cores,
        server=server.median, clients=clients.median,
    )  # fmt: skip
    return joined(said, _RESTED if server.median + clients.median < ALL_BUSY * machine.cores else _ALL_BUSY)


ALL_BUSY = 0.9
_RESTED = Text(
    "So the cores rested at times: the formula takes it that the threads of a worker never wait at the same moment, "
    "but they do, and then its core has nothing to do. More threads than it says help.",
    "可见核有时闲着：公式假定一个工作进程的各线程绝不会同时等待，但这是会发生的，那时它的核就无事可做。"
    "比公式更多的线程会有帮助。",
)
_ALL_BUSY = Text(
    "So the cores were busy; how they are divided between workers and clients is what differs.",
    "可见核一直在忙；差别在于它们如何分给工作进程和客户端。",
)


def _said(pair: Pair) -> str:
    return f"{pair[0]} × {pair[1]}"


def draw(machine: Machine, samples: Samples) -> Sequence[Plot]:
    plots: list[Plot] = []
    x, y = Axis(Text("threads in each worker", "每个工作进程的线程数")), Axis(Text("workers", "工作进程数"))
    value = Axis(Text("calls in a second", "每秒调用数"), "1/s")
    for kind, name in KINDS.items():
        found = surface(samples, kind)
        if not found:
            continue
        rows, columns = sorted({pair[0] for pair in found}), sorted({pair[1] for pair in found})
        cells = [[found[row, column].median if (row, column) in found else None for column in columns] for row in rows]
        marks = [(float(pair[1]), float(pair[0]), what) for pair, what in _marks(machine, kind, found)]
        title = Text(f"Throughput: {name.en}", f"吞吐量：{name.zh}")
        plots.append(
            Heat(title, x, y, value, [float(column) for column in columns], [float(row) for row in rows], cells, marks)
        )
    return plots


def _marks(machine: Machine, kind: str, found: dict[Pair, Spread]) -> list[tuple[Pair, Text]]:
    by_formula, most = chosen(machine, kind, list(found)), best(found)
    if by_formula == most:
        return [(most, Text("best, and the formula", "最好，也是公式所选"))]
    return [(by_formula, Text("the formula", "公式所选")), (most, Text("best", "最好"))]


def summarize(machine: Machine, samples: Samples) -> Table:
    """For the terminal: calls in a second of each pair, for the three kinds."""
    surfaces = {kind: surface(samples, kind) for kind in KINDS}
    columns = [Text("workers × threads", "工作进程 × 线程"), *(joined(name, _A_SECOND) for name in SHORT.values())]
    rows = []
    for pair in sorted({pair for found in surfaces.values() for pair in found}):
        cells = [same("")] * len(KINDS)
        for place, (kind, found) in enumerate(surfaces.items()):
            if pair in found:
                sign = _SIGNS[pair == best(found), pair == chosen(machine, kind, list(found))]
                cells[place] = joined(same(f"{found[pair].median:,.0f}"), sign)
        rows.append([same(_said(pair)), *cells])
    return Table(columns, rows)


_A_SECOND = Text("(1/s)", "（次/秒）")
_SIGNS = {
    (False, False): same(""),
    (True, False): Text("best", " 最好"),
    (False, True): Text("formula", " 公式"),
    (True, True): Text("best, formula", " 最好，公式"),
}
"""By whether it is the best one, and the formula's choice."""


def tabulate(machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("calls", "调用"),
        Text("workers × threads", "工作进程 × 线程"),
        Text("calls/s", "每秒调用数"),
        Text("of the best, %", "与最好者之比，%"),
        Text("p99, ms", "p99，毫秒"),
        Text("cores, workers", "核，工作进程"),
        Text("cores, clients", "核，客户端"),
        Text("", ""),
    ]
    rows = []
    for kind, name in SHORT.items():
        found = surface(samples, kind)
        marked = dict(_marks(machine, kind, found)) if found else {}
        for pair, rate in found.items():
            p99, server, clients = (
                samples.spread(case_of(kind, pair), what) for what in ("p99_ms", "server_busy", "clients_busy")
            )
            share = rate.median / found[best(found)].median
            cells = [
                same(_said(pair)),
                same(rate.text(0)),
                same(f"{share * 100:.0f}"),
                same(p99.text(1) if p99 else "–"),
                same(f"{server.median:.1f}" if server else "–"),
                same(f"{clients.median:.1f}" if clients else "–"),
            ]
            rows.append([name, *cells, marked.get(pair, same(""))])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="sizing",
    question=Text("How many workers, how many threads?", "要多少个工作进程、多少个线程？"),
    explains=Text(
        "One call computes for a time C and waits for a time W. More workers than cores cannot compute at once, so "
        "take as many as there are cores. While one call waits, others could compute: to keep a core busy it takes 1 "
        "+ W / C threads. Here a Paceline server runs for each pair of numbers, thirty-two clients load it with one "
        "kind of call, and each field shows how many calls were done in a second. Look for the best field, and then "
        "for the smallest that is nearly as good: that is the one to choose. The formula knows nothing of the GIL, "
        "of the way through the server, nor of the clients, which take their part of the same cores.",
        "一次调用计算的时间是 C，等待的时间是 W。工作进程多于核数也不能同时计算，所以有多少核就用多少个。"
        "一个调用等待时，其他调用可以计算：要让一个核一直忙，需要 1 + W / C 个线程。"
        "这里为每一组数字运行一个 Paceline 服务器，三十二个客户端用一类调用给它加负载，"
        "每个格子显示每秒完成多少次调用。先找最好的格子，再找几乎一样好的格子中最小的那个：应当选的就是它。"
        "公式不知道 GIL，不知道服务器本身的开销，也不知道客户端同样要占用这些核。",
    ),
    shown=(answer, compute, threads_by_formula),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    summarize=summarize,
    quick_s=12.0,
    full_s=96.0,
)
