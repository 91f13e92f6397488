"""One handler, five servers: which is best for what?

All five run all the time, each a new Python that has imported nothing but peers.py (and Paceline itself); a few clients
load one of them at a time, and leave after some calls, so that others come.  The clients are one process on the same
machine: what they take of the cores, they take from every server alike.

Whoever has no answer at the end, and has waited longer than nearly all who have one, counts with the time until then:
where one client is served at a time, most are such, and the true p99 is longer than what is shown, which says so.
"""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict
from paceline.lab.peers import answer, converse, one_at_a_time, pool, process_per_connection, thread_per_connection
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from paceline.lab.starting import Serving

CLIENTS = 16
CALLS = 5
"""After so many a client leaves."""
WAIT_US = 5_000
COMPUTE_S = 0.001
POOL_THREADS, PACELINE_THREADS = 4, 64
"""In each process of the pool, all there from the start; in each worker of Paceline, at the most."""
ALL_BUSY = 0.9
"""Clients that compute for that share of the time could not have asked for much more."""
WAITS, COMPUTES = 3.0, 1.3
"""Predicted: so many times the calls of one at a time that block; of threads that compute, in processes."""
NEAR = 0.5
"""Predicted: Paceline does at least this share of what the best one does, in each kind."""

ONE, THREAD, PROCESS, POOL, PACELINE = "one", "thread", "process", "pool", "paceline"
SERVERS = {
    ONE: Text("one at a time", "一次一个"),
    THREAD: Text("thread per connection", "每连接一线程"),
    PROCESS: Text("process per connection", "每连接一进程"),
    POOL: Text("processes × threads", "进程 × 线程池"),
    PACELINE: same("Paceline"),
}
QUICK, WAIT, COMPUTE, MIXED = "quick", "wait", "compute", "mixed"
KINDS = {
    QUICK: Text("quick calls", "快速调用"),
    WAIT: Text("calls that block 5 ms", "阻塞 5 毫秒的调用"),
    COMPUTE: Text("calls that compute 1 ms", "计算 1 毫秒的调用"),
    MIXED: Text("mixed: 80% quick, 10% block, 10% compute", "混合：80% 快速、10% 阻塞、10% 计算"),
}
SHORT = {
    QUICK: Text("quick", "快速"),
    WAIT: Text("block", "阻塞"),
    COMPUTE: Text("compute", "计算"),
    MIXED: Text("mixed", "混合"),
}
"""The kinds in a table."""


def case_of(server: str, kind: str) -> str:
    return f"{server} {kind}"


def measure(study: Study) -> None:
    from contextlib import ExitStack

    from paceline.lab.computing import amount_for
    from paceline.lab.peers import compute
    from paceline.lab.starting import paceline, peer, serving

    cores = study.machine.cores
    ways = {
        ONE: peer("one_at_a_time"),
        THREAD: peer("thread_per_connection"),
        PROCESS: peer("process_per_connection"),
        POOL: peer("pool", cores, POOL_THREADS),
        PACELINE: paceline(cores, PACELINE_THREADS),
    }
    quick, wait, computing = b"quick", b"wait %d" % WAIT_US, b"compute %d" % amount_for(compute, COMPUTE_S)
    kinds: dict[str, Callable[[], bytes]] = {
        QUICK: lambda: quick,
        WAIT: lambda: wait,
        COMPUTE: lambda: computing,
        MIXED: lambda: study.chance.choice([quick] * 8 + [wait, computing]),
    }
    for_s = 0.2 if study.quick else 1.0
    study.settings(
        clients=CLIENTS, calls_each=CALLS, for_s=for_s, pool=[cores, POOL_THREADS], paceline=[cores, PACELINE_THREADS]
    )
    for number, kind in enumerate(kinds):
        study.part(number / len(kinds), (number + 1) / len(kinds))
        with ExitStack() as stack:  # new ones for each kind: threads that another kind has made would be there still
            servers = {name: stack.enter_context(serving(way)) for name, way in ways.items()}
            for round_, name in study.rounds(servers, quick=2, full=4):
                ran = _load(servers[name], kinds[kind], for_s if round_ else for_s / 4)
                made = ran["connections"] if name in (THREAD, PROCESS) else ran["at_once"]
                study.note(case_of(name, kind), round_, made=made, **ran)


def _load(server: "Serving", message: Callable[[], bytes], for_s: float) -> dict[str, Any]:
    from paceline.lab.load import closed

    found: dict[str, int] = {}

    def look() -> None:
        found.update(at_once=server.threads(), pss_bytes=server.pss_bytes())

    ran = closed(server.address, CLIENTS, message, calls=CALLS, for_s=for_s, at_end=look)
    return {
        "calls_per_s": len(ran.answered_ms) / ran.took_s, "p50_ms": ran.percentile_ms(50),
        "p99_ms": ran.percentile_ms(99), "waiting_long": len(ran.long_unanswered_ms()), "lost": ran.lost,
        "connections": ran.connections, "clients_busy": ran.cpu_s / ran.took_s, **found,
    }  # fmt: skip


# What the samples say


def of_best(samples: Samples, kind: str) -> tuple[str, Spread] | None:
    """Which server other than Paceline did most calls of this kind, and what share of that Paceline did."""
    others = {
        name: spread.median
        for name in SERVERS
        if name != PACELINE and (spread := samples.spread(case_of(name, kind), "calls_per_s")) is not None
    }
    if not others:
        return None
    best = max(others, key=others.__getitem__)
    share = samples.ratio("calls_per_s", case_of(PACELINE, kind), case_of(best, kind))
    return None if share is None else (best, share)


def is_least(samples: Samples, server: str, kind: str) -> bool:
    """Whether the true p99 is longer than what was measured, since some had no answer yet."""
    return any(sample["waiting_long"] for sample in samples.of(case_of(server, kind)))


def are_processes_faster(machine: Machine) -> bool:
    return machine.has_gil and machine.cores > 1


def is_process_dearest(machine: Machine) -> bool:
    """A process for each of the clients is more than one for each core."""
    return machine.cores < CLIENTS


def predict(machine: Machine) -> Prediction:
    figures = {"blocking ÷ one at a time": WAITS, "Paceline ÷ the best": NEAR}
    if are_processes_faster(machine):
        figures["computing: processes ÷ threads"] = COMPUTES
    return Prediction(
        joined(
            Text(
                "Under calls that block, each of the others does at least {waits:g} times what one at a time does.",
                "面对阻塞的调用，其余四种每秒完成的调用数至少是“一次一个”的 {waits:g} 倍。",
            ).filled(waits=WAITS),
            (_FASTER if are_processes_faster(machine) else _NO_FASTER).filled(computes=COMPUTES),
            _DEAREST if is_process_dearest(machine) else same(""),
            Text(
                "Paceline need not be the best in any kind, but in each does at least {near:.0%} of what the best one "
                "does.",
                "Paceline 不必在任何一类调用中最好，但每一类都至少达到最好者的 {near:.0%}。",
            ).filled(near=NEAR),
        ),
        figures,
    )


_DEAREST = Text(
    "Of the four plain ones, a process per connection needs the most memory.",
    "在四种朴素的服务器中，每连接一进程用的内存最多。",
)
_FASTER = Text(
    "Under calls that compute, the pool of processes does at least {computes:g} times what threads of one process do, "
    "for those share one GIL.",
    "面对计算的调用，进程池完成的调用数至少是单进程多线程的 {computes:g} 倍，因为同一进程的线程共用一个 GIL。",
)
_NO_FASTER = Text(
    "Under calls that compute, the pool of processes does less than {computes:g} times what threads of one process do: "
    "there is one core, or no GIL.",
    "面对计算的调用，进程池完成的调用数不到单进程多线程的 {computes:g} 倍：因为只有一个核，或者没有 GIL。",
)


def judge(machine: Machine, samples: Samples) -> Verdict:
    waits = [samples.ratio("calls_per_s", case_of(name, WAIT), case_of(ONE, WAIT)) for name in SERVERS if name != ONE]
    computes = samples.ratio("calls_per_s", case_of(POOL, COMPUTE), case_of(THREAD, COMPUTE))
    memory = {name: samples.spread(case_of(name, WAIT), "pss_bytes") for name in SERVERS}
    shares = {kind: of_best(samples, kind) for kind in KINDS}
    if None in waits or computes is None or None in memory.values() or None in shares.values():
        return Verdict.unknown()
    least = min(ratio.median for ratio in waits if ratio is not None)
    mib = {name: spread.median / (1 << 20) for name, spread in memory.items() if spread is not None}
    near = {kind: found[1].median for kind, found in shares.items() if found is not None}
    right = {
        _BLOCKING: least >= WAITS,
        _COMPUTING: (computes.median >= COMPUTES) == are_processes_faster(machine),
        _MEMORY: not is_process_dearest(machine) or mib[PROCESS] >= max(mib[ONE], mib[THREAD], mib[POOL]),
        _SHARE: min(near.values()) >= NEAR,
    }
    wrong = [what for what, is_right in right.items() if not is_right]
    text = joined(
        _held_text(wrong),
        Text(
            "Under calls that block, each of the others did at least {least} times what one at a time did; under "
            "calls that compute, the pool did {computes} times what threads of one process did. While {clients} "
            "clients made blocking calls, a process per connection took {process:,.0f} MiB, a thread per connection "
            "{thread:,.0f}, the pool {pool:,.0f}, Paceline {paceline:,.0f}.",
            "面对阻塞的调用，其余四种至少是“一次一个”的 {least} 倍；面对计算的调用，"
            "进程池是单进程多线程的 {computes} 倍。{clients} 个客户端进行阻塞调用时，"
            "每连接一进程占用 {process:,.0f} MiB，每连接一线程 {thread:,.0f} MiB，"
            "进程池 {pool:,.0f} MiB，Paceline {paceline:,.0f} MiB。",
        ).filled(
            least=telling(least, WAITS, 1), computes=telling(computes.median, COMPUTES, 2), clients=CLIENTS,
            process=mib[PROCESS], thread=mib[THREAD], pool=mib[POOL], paceline=mib[PACELINE],
        ),
        _shares_text(shares),
        _bound_text(samples),
        *(reason for what, reason in _REASONS.items() if what in wrong),
    )  # fmt: skip
    figures = {"blocking ÷ one at a time": least, "computing: processes ÷ threads": computes.median}
    return Verdict(not wrong, text, {**figures, **{f"Paceline ÷ the best, {kind}": near[kind] for kind in near}})


_BLOCKING, _COMPUTING = Text("blocking calls", "阻塞的调用"), Text("computing calls", "计算的调用")
_MEMORY, _SHARE = Text("memory", "内存"), Text("Paceline's share of the best", "Paceline 与最好者之比")
_REASONS = {
    _BLOCKING: Text(
        "How much is gained by waiting together is limited by the clients and the cores, too.",
        "一起等待能带来多少提升，还受客户端和核的限制。",
    ),
    _COMPUTING: Text(
        "The clients need a core for themselves at times, which with few cores is not there for the processes.",
        "客户端有时也要占用一个核；核少的时候，进程就少了一个。",
    ),
    _MEMORY: Text(
        "Memory is measured once in a round, and of what processes share each counts a part only.",
        "内存每轮只测一次，而且进程之间共享的部分，每个只计一份。",
    ),
    _SHARE: Text(
        "In Paceline each call passes a loop that serves all protocols and watches over calls; where a call costs "
        "next to nothing, that is most of what is measured.",
        "在 Paceline 中，每个调用都要经过一个通用的、监督各次调用的循环；调用本身几乎不花时间时，测到的大半就是它。",
    ),
}


def _bound_text(samples: Samples) -> Text:
    """In which kinds the clients could hardly have asked for more."""
    bound = [
        SHORT[kind]
        for kind in KINDS
        for busy in [samples.values(case_of(server, kind), "clients_busy") for server in SERVERS]
        if busy and median(busy) >= ALL_BUSY
    ]
    kinds = list(dict.fromkeys(bound))
    said = Text(
        "With some servers the clients were busy for nearly all of the time and could not have asked for more: "
        "{kinds}.",
        "面对某些服务器，客户端几乎一直在忙，不可能再多问：{kinds_zh}。",
    )
    names = ", ".join(kind.en for kind in kinds), "、".join(kind.zh for kind in kinds)
    return said.filled(kinds=names[0], kinds_zh=names[1]) if kinds else same("")


def _held_text(wrong: Sequence[Text]) -> Text:
    """And where not."""
    if not wrong:
        return Text("It held here.", "在这台机器上预测成立。")
    return Text(
        "It did not hold here for " + ", ".join(each.en for each in wrong) + ".",
        "在这台机器上预测不成立，不符之处：" + "、".join(each.zh for each in wrong) + "。",
    )


def _shares_text(shares: dict[str, tuple[str, Spread] | None]) -> Text:
    """Paceline beside the best of the others, kind by kind."""
    en, zh = [], []
    for kind, found in shares.items():
        if found is not None:
            best, share = found
            percent = f"{telling(share.median * 100, NEAR * 100, 0)}%"
            en.append(f"{SHORT[kind].en} {percent} ({SERVERS[best].en})")
            zh.append(f"{SHORT[kind].zh} {percent}（{SERVERS[best].zh}）")
    return Text(
        f"Of what the best of the others did, Paceline did: {', '.join(en)}.",
        f"与其余四种中最好的相比，Paceline 完成了：{'，'.join(zh)}。",
    )


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    if not samples:
        return []
    plots: list[Plot] = []
    for kind, kind_name in KINDS.items():
        for quantity, what, axis in _PICTURES:
            bars = [
                Bar(
                    joined(name, _AT_LEAST) if quantity == "p99_ms" and is_least(samples, server, kind) else name,
                    spread,
                    int(server == PACELINE),
                )
                for server, name in SERVERS.items()
                if (spread := samples.spread(case_of(server, kind), quantity)) is not None
            ]
            if bars:
                plots.append(Bars(Text(f"{what.en}: {kind_name.en}", f"{what.zh}：{kind_name.zh}"), axis, bars))
    memory = [
        Bar(name, spread / (1 << 20), int(server == PACELINE))
        for server, name in SERVERS.items()
        if (spread := samples.spread(case_of(server, WAIT), "pss_bytes")) is not None
    ]
    title = Text(f"Memory, while {CLIENTS} clients make blocking calls", f"{CLIENTS} 个客户端进行阻塞调用时的内存")
    axis = Axis(Text("memory of all its processes (PSS)", "全部进程的内存（PSS）"), "MiB")
    return [*plots, Bars(title, axis, memory)] if memory else plots


_AT_LEAST = Text("(at least)", "（至少）")
_PICTURES = [
    ("calls_per_s", Text("Throughput", "吞吐量"), Axis(Text("calls answered", "应答的调用"), "1/s")),
    ("p99_ms", Text("p99", "p99"), Axis(Text("99 of 100 wait no longer", "100 次中有 99 次不超过"), "ms", is_log=True)),
]


def summarize(_machine: Machine, samples: Samples) -> Table:
    """For the terminal: a row for each server and quantity, a column for each kind."""
    columns = [Text("server", "服务器"), Text("what", "项目"), *SHORT.values()]
    rows = []
    for server, name in SERVERS.items():
        for quantity, what, digits in _IN_SHORT:
            found = [samples.spread(case_of(server, kind), quantity) for kind in KINDS]
            if any(found):
                cells = [
                    ""
                    if spread is None
                    else "≥ " * (quantity == "p99_ms" and is_least(samples, server, kind))
                    + f"{spread.median:,.{digits}f}"
                    for kind, spread in zip(KINDS, found, strict=True)
                ]
                rows.append([name, what, *map(same, cells)])
    return Table(columns, rows)


_IN_SHORT = [("calls_per_s", Text("calls/s", "每秒调用数"), 0), ("p99_ms", Text("p99, ms", "p99，毫秒"), 1)]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("calls", "调用"), Text("server", "服务器"), Text("calls/s", "每秒调用数"), Text("p50, ms", "p50，毫秒"),
        Text("p99, ms (≥: some had no answer yet)", "p99，毫秒（≥：有些尚未得到应答）"),
        Text("PSS, MiB", "PSS，MiB"), Text("threads at the end", "结束时的线程数"),
        Text("threads or processes made", "创建的线程或进程数"), Text("clients busy, %", "客户端忙，%"),
    ]  # fmt: skip
    rows = []
    for kind, kind_name in SHORT.items():
        for server, name in SERVERS.items():
            case = case_of(server, kind)
            quantities = ("calls_per_s", "p50_ms", "p99_ms", "pss_bytes", "at_once", "made", "clients_busy")
            rate, p50, p99, pss, at_once, made, busy = (samples.spread(case, quantity) for quantity in quantities)
            if rate and p50 and p99 and pss and at_once and made and busy:
                shown = "≥ " * is_least(samples, server, kind) + p99.text(1)
                cells = [rate.text(0), p50.text(2), shown, (pss / (1 << 20)).text(1)]
                cells += [f"{at_once.median:,.0f}", f"{made.median:,.0f}", f"{busy.median:.0%}".rstrip("%")]
                rows.append([kind_name, name, *map(same, cells)])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="servers",
    question=Text("One handler, five servers: which is best for what?", "同一个处理函数，五种服务器：各自适合什么？"),
    explains=Text(
        "Every server listens, accepts, receives, calls the handler, sends. These five differ only in who does it. One "
        "at a time: the next client waits until this one leaves. A thread, or a process, for each connection, made "
        "when it comes. A pool, a process for each core × four threads, all made in advance, each thread with one "
        "client at a time. And Paceline, which has a process for each core, and makes a thread only when a call "
        "blocks, up to 64 in each. Sixteen clients send, wait for the answer, and send again; after five calls each "
        "leaves, and another one comes. They do it with four kinds of calls. Throughput says how many calls are done; "
        "p99 says how the unlucky fare: 99 of 100 wait no longer. A client that waits does not send meanwhile, so a "
        "slow server is asked less often, and no wait can be longer than the measuring. The clients run on the same "
        "cores, so with quick calls they are measured, too.",
        "每个服务器都要监听、接受连接、接收、调用处理函数、发送。这五种服务器的区别只在于由谁来做。一次一个：下一个客"
        "户端要等这一个离开。每连接一线程、每连接一进程：连接来了才创建。池：每个核一个进程 × 四个线程，全部事先创建"
        "好，每个线程一次服务一个客户端。还有 Paceline：每个核一个进程，只在某个调用阻塞时才创建线程，每个进程最多 64 "
        "个。十六个客户端发送、等应答、再发送；每个客户端五次调用之后离开，换一个新的来。调用共有四类。吞吐量说明完成"
        "了多少调用，p99 说明运气差的要等多久：100 次中有 99 次不超过它。客户端在等待时不会再发送，所以慢的服务器被问"
        "得也少，而且等待不可能比测量的时间更长。客户端也在同样这些核上运行，所以对于快速调用，测到的也包括客户端自"
        "己。",
    ),
    shown=(answer, converse, one_at_a_time, thread_per_connection, process_per_connection, pool),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    summarize=summarize,
    quick_s=12.0,
    full_s=90.0,
)
