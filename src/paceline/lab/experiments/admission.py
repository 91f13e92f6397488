"""Why accept only with a free thread?  One of two workers is saturated, the other one idle; quick messages come.

Clients connect, one by one, and ask who answers, until one worker has as many of them as it has threads; the others
leave.  Each of these is sent a slow call, so that all threads of that worker are taken.  Then quick messages become due
at a fixed pace, each on a new connection, and all before the slow calls end; a latency counts from when it was due.  A
round in which the slow calls did not all run in one worker is kept, and not judged.
"""

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.experiment import Experiment, Machine, Prediction, Table, Verdict, how
from paceline.lab.peers import accept_always, accept_and_queue, own_listeners, poll_and_accept, pool, shared_listener
from paceline.lab.plots import Axis, Bar, Bars, Plot
from paceline.lab.samples import Samples
from paceline.lab.study import Study
from paceline.lab.texts import Text, joined, same, telling
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from contextlib import ExitStack

    from paceline.lab.starting import Serving

WORKERS, THREADS = 2, 4
EVERY_S = 0.005
SETTLE_S = 0.02
"""So long after the slow messages the quick ones begin."""
LATE_MS = 50.0
"""A quick message that waits longer waits for the saturated worker."""
SOME, FEW = 10.0, 1.0
"""Predicted, in percent: at least so many are late where anybody accepts; at most so many where only a free thread."""

SHARED, REUSEPORT, ALWAYS, POOL, OURS = "shared", "reuseport", "always", "pool", "ours"
NAMES = {
    SHARED: Text("shared listener, polled by all", "共享监听套接字，各进程都轮询"),
    REUSEPORT: Text("SO_REUSEPORT", "SO_REUSEPORT"),
    ALWAYS: Text("accept always, and queue", "总是接受，再排队"),
    POOL: Text("a pool: only a free thread accepts", "线程池：有空闲线程才接受"),
    OURS: Text("Paceline: only a free thread accepts", "Paceline：有空闲线程才接受"),
}
BY_FREE_THREADS = (POOL, OURS)


def measure(study: Study) -> None:
    from contextlib import ExitStack

    from paceline.lab.starting import paceline, peer, serving

    ways = {
        SHARED: peer("shared_listener", WORKERS, THREADS),
        REUSEPORT: peer("own_listeners", WORKERS, THREADS),
        ALWAYS: peer("accept_always", WORKERS, THREADS),
        POOL: peer("pool", WORKERS, THREADS),
        OURS: paceline(WORKERS, THREADS),
    }
    count = 60 if study.quick else 200
    study.settings(workers=WORKERS, threads=THREADS, quick_messages=count, every_s=EVERY_S, slow_s=slow_s(count))
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(way)) for name, way in ways.items()}
        for round_, case in study.rounds(servers, quick=2, full=6):
            study.note(case, round_, **_beside_a_saturated_one(servers[case], count if round_ else count // 4))


def slow_s(count: int) -> float:
    """How long a slow call takes: longer than all quick messages come, and than what counts as late."""
    return SETTLE_S + count * EVERY_S + 4 * LATE_MS / 1e3


def _beside_a_saturated_one(server: "Serving", count: int) -> dict[str, Any]:
    from contextlib import ExitStack

    from paceline.clock import now, sleep
    from paceline.lab.load import due
    from paceline.lab.starting import receive_line

    lasts_s = slow_s(count)
    with ExitStack() as stack:
        held = _clients_of_one_worker(server, stack)
        begun_s = now()
        for connection in held:
            connection.sendall(b"wait %d\n" % round(lasts_s * 1e6))
            connection.shutdown(socket.SHUT_WR)  # it is its last one, so the thread is free when it is answered
        sleep(SETTLE_S)
        ran = due(server.address, b"quick", count=count, every_s=EVERY_S, until_s=begun_s + lasts_s + 2)
        workers = {receive_line(connection) for connection in held}
        waited_ms = [round(each, 3) for each in (*ran.answered_ms, *ran.unanswered_ms)]
        return {
            "waited_ms": waited_ms, "late": sum(each > LATE_MS for each in waited_ms), "p50_ms": ran.percentile_ms(50),
            "p99_ms": ran.percentile_ms(99), "lost": ran.lost, "workers_of_slow": len(workers),
            "slow_ms": lasts_s * 1e3,
        }  # fmt: skip


def _clients_of_one_worker(server: "Serving", stack: "ExitStack") -> list[socket.socket]:
    """As many as it has threads.  Raises HostError when no worker gets so many."""
    from contextlib import ExitStack

    from paceline.errors import HostError
    from paceline.lab.starting import ask

    with ExitStack() as all_of_them:
        clients: dict[int, list[socket.socket]] = {}
        for _ in range(16 * THREADS):
            connection = all_of_them.enter_context(server.connect())
            by = ask(connection, b"quick")
            if by is None:
                continue
            mine = clients.setdefault(by, [])
            mine.append(connection)
            if len(mine) == THREADS:
                return [stack.enter_context(each.dup()) for each in mine]
        raise HostError(f"of {16 * THREADS} clients no worker has {THREADS}")


# What the samples say


def valid(samples: Samples) -> Samples:
    """Those in which one worker had all of the slow calls."""
    return Samples.made(sample for sample in samples if sample["workers_of_slow"] == 1)


def late(samples: Samples, case: str) -> Spread | None:
    """In percent of the quick messages, round by round."""
    return Spread.of(100 * it["late"] / len(it["waited_ms"]) for it in samples.of(case) if it["waited_ms"])


def predict(_machine: Machine) -> Prediction:
    return Prediction(
        Text(
            "Who accepts has promised to serve. Where the saturated worker accepts, too, some of the quick messages "
            "wait for its slow calls: in each of the first three ways at least {some:.0f}% wait longer than "
            "{late:.0f} ms, though another worker is idle. Where only a free thread accepts, be it in a plain pool or "
            "in Paceline, at most {few:.0f}% do.",
            "谁接受了连接，谁就承诺了服务。如果已经饱和的工作进程也接受连接，就会有快速消息去等它的慢调用："
            "前三种方式中，每一种都至少有 {some:.0f}% 要等 {late:.0f} 毫秒以上，尽管另一个工作进程闲着。"
            "如果只有空闲的线程才接受，无论是普通的线程池还是 Paceline，这样的最多 {few:.0f}%。",
        ).filled(some=SOME, late=LATE_MS, few=FEW),
        {"late % at least": SOME, "late % where a free thread accepts": FEW},
    )


def judge(_machine: Machine, samples: Samples) -> Verdict:
    kept = valid(samples)
    found = {case: late(kept, case) for case in NAMES}
    shares = {case: spread.median for case, spread in found.items() if spread is not None}
    p99 = {case: spread.median for case in NAMES if (spread := kept.spread(case, "p99_ms")) is not None}
    if len(shares) < len(NAMES):
        return Verdict.unknown()
    is_some = all(shares[case] >= SOME for case in NAMES if case not in BY_FREE_THREADS)
    is_few = all(shares[case] <= FEW for case in BY_FREE_THREADS)
    text = Text(
        "{how} here. Beside a saturated worker, the share of quick messages that waited longer than {late:.0f} ms was "
        "{shared}% with a shared listener, {reuseport}% with SO_REUSEPORT, {always}% where a thread always accepts, "
        "{pool}% with a pool whose free threads accept, and {ours}% with Paceline ({count} of {all:,}). 99 of 100 "
        "waited no longer than {p99_shared:,.0f}, {p99_reuseport:,.0f}, {p99_always:,.0f}, {p99_pool:,.1f} and "
        "{p99_ours:,.1f} ms; a slow call lasts {slow:,.0f} ms, and nobody waits for longer than that.",
        "在这台机器上{how_zh}。旁边有一个饱和的工作进程时，等待超过 {late:.0f} 毫秒的快速消息所占比例：共享监听套接字 "
        "{shared}%，SO_REUSEPORT {reuseport}%，总是接受 {always}%，由空闲线程接受的线程池 {pool}%，Paceline {ours}%"
        "（{all:,} 个中有 {count} 个）。100 个中有 99 个等待不超过 {p99_shared:,.0f}、{p99_reuseport:,.0f}、"
        "{p99_always:,.0f}、{p99_pool:,.1f} 和 {p99_ours:,.1f} 毫秒（依同样次序）；"
        "一个慢调用持续 {slow:,.0f} 毫秒，等待不会比它更久。",
    ).filled(
        **how(is_some and is_few), late=LATE_MS, slow=max(it["slow_ms"] for it in kept),
        count=sum(it["late"] for it in kept.of(OURS)), all=sum(len(it["waited_ms"]) for it in kept.of(OURS)),
        **{case: telling(value, FEW if case in BY_FREE_THREADS else SOME, 0) for case, value in shares.items()},
        **{f"p99_{case}": value for case, value in p99.items()},
    )  # fmt: skip
    held = is_some and is_few
    if not is_some:
        text = joined(text, _FEWER)
    if not is_few:
        text = joined(text, _MORE)
    left_out = len(samples) - len(kept)
    if left_out:
        text = joined(
            text,
            Text(
                "Left out, since more than one worker had slow calls: {count} of the rounds.",
                "有 {count} 轮没有计入：慢调用落在了不止一个工作进程里。",
            ).filled(count=left_out),
        )
    return Verdict(held, text, {f"late %, {case}": share for case, share in shares.items()})


_FEWER = Text(
    "In one of the first three ways fewer waited: the idle worker was the first at the socket more often than not.",
    "前三种方式中有一种等待的较少：闲着的工作进程多数时候先到。",
)
_MORE = Text(
    "More waited where only a free thread accepts: if the machine stood still for a moment, all that were due then "
    "waited, whoever accepts.",
    "只有空闲线程才接受的情况下等待的也偏多：如果机器曾停顿片刻，那一刻到期的消息无论由谁接受都要等。",
)


def draw(_machine: Machine, samples: Samples) -> Sequence[Plot]:
    kept = valid(samples)
    if not kept:
        return []
    shares = [
        Bar(name, spread, int(case in BY_FREE_THREADS))
        for case, name in NAMES.items()
        if (spread := late(kept, case)) is not None
    ]
    waits = [
        Bar(joined(name, same(f" {which}")), spread, place)
        for case, name in NAMES.items()
        for place, which in enumerate(("p50", "p99"))
        if (spread := kept.spread(case, f"{which}_ms")) is not None
    ]
    return [
        Bars(
            Text(f"Quick messages that waited longer than {LATE_MS:.0f} ms", f"等待超过 {LATE_MS:.0f} 毫秒的快速消息"),
            Axis(Text("of all quick messages", "占全部快速消息的比例"), "%"),
            shares,
        ),
        Bars(
            Text("How long quick messages waited", "快速消息等了多久"),
            Axis(Text("from when it was due to the answer", "从应当发出到得到应答"), "ms", is_log=True),
            waits,
            (same("p50"), same("p99")),
        ),
    ]


def tabulate(_machine: Machine, samples: Samples) -> Table:
    columns = [
        Text("who accepts", "谁接受连接"),
        Text(f"waited > {LATE_MS:.0f} ms", f"等待 > {LATE_MS:.0f} 毫秒"),
        Text("of", "总数"),
        Text("%", "百分比"),
        Text("p50, ms", "p50，毫秒"),
        Text("p99, ms", "p99，毫秒"),
    ]
    kept = valid(samples)
    rows = []
    for case, name in NAMES.items():
        share, p50, p99 = late(kept, case), kept.spread(case, "p50_ms"), kept.spread(case, "p99_ms")
        if share and p50 and p99:
            count = sum(it["late"] for it in kept.of(case))
            cells = [f"{count:,}", f"{len(kept.values(case, 'waited_ms')):,}", share.text(0)]
            rows.append([name, *map(same, [*cells, p50.text(2), p99.text(1)])])
    return Table(columns, rows)


EXPERIMENT = Experiment(
    name="admission",
    question=Text("Why accept only with a free thread?", "为什么有空闲线程才接受连接？"),
    explains=Text(
        "A server has two workers of four threads each. All four of one are inside slow calls; the other has nothing "
        "to do. Now quick messages come, each on a new connection. Who takes them? With a shared listener both workers "
        "wait for the same socket, and whoever is first accepts: a loop that hands calls to threads is always ready to "
        "accept, also when none of its threads is free. With SO_REUSEPORT each worker has a socket of its own, and the "
        "kernel chooses by a hash of the addresses; it does not know who is busy. Where a thread does nothing but "
        "accept and queue, that worker takes its part, whatever the others do. In a pool whose threads accept by "
        "themselves, and in Paceline, only a free thread accepts. "
        "It is the queue before the tills: one for all, from which the next one goes to whoever is free, or one for "
        "each till, in which one stands behind the wrong customer.",
        "一个服务器有两个工作进程，每个有四个线程。其中一个的四个线程都在慢调用里，另一个无事可做。"
        "这时来了快速消息，每个都在新的连接上。谁来接？共享监听套接字时，两个工作进程等待同一个套接字，谁先到谁接受："
        "把调用交给线程的循环总是可以接受，哪怕它的线程没有一个空闲。用 SO_REUSEPORT 时，每个工作进程有自己的套接字，"
        "由内核按地址的散列值选择，内核并不知道谁忙。如果有一个线程专门接受连接并放入队列，"
        "那么不管其他线程在做什么，这个工作进程都会拿走一份。"
        "在线程各自接受连接的线程池中，以及在 Paceline 中，只有空闲的线程才接受。"
        "这就像收银台前排队：大家排一队，谁空了就叫下一个；或者每台各排一队，于是有人排在了错误的顾客后面。",
    ),
    shown=(shared_listener, own_listeners, poll_and_accept, accept_always, accept_and_queue, pool),
    predict=predict,
    measure=measure,
    judge=judge,
    draw=draw,
    tabulate=tabulate,
    quick_s=8.0,
    full_s=42.0,
)
