"""A result as a table, for people.  Pure."""

from collections import Counter

from paceline.chaos.books import Count
from paceline.chaos.figures import worst
from paceline.chaos.judge import How
from paceline.chaos.result import Result
from paceline.events import counted

_NAME = 14


def text_of(result: Result) -> str:
    """Several lines, the last one ended, too."""
    plan, tally, books = result.plan, result.tally, result.books
    served = "the application in the box" if plan.target is None else plan.target
    head = ["paceline chaos", served, counted(plan.workers, "worker"), counted(plan.connections, "connection")]
    titles = f"{'times':>7}{'recovery p50':>14}{'p99':>10}{'worst':>10}{'lost':>8}{'cut':>8}{'worst stall':>13}"
    rows = sorted(books.counts.items(), key=lambda item: (-item[1].injected, item[0]))
    took = f"{result.seconds:.1f} s{', interrupted' if result.is_interrupted else ''}"
    parked, unexplained = result.parked_cut, _unexplained(books.cut_by)
    wrong = ", ".join(f"{what}: {count:,}" for what, count in tally.wrong.items())
    lines = [
        " · ".join([*head, f"seed {plan.seed}"]),
        "",
        f"  {'fault':<{_NAME}}{titles}",
        *(_fault_row(name, count) for name, count in rows),
        "",
        *_figures(result),
        _row("time", f"{took}; {counted(result.servers, 'server')}"),
        _row("faults", f"{result.injected:,}"),
        _row("messages", f"{tally.sent:,} sent, {tally.answered:,} answered once and in order"),
        _row("lost", _reasons(books.lost_by)),
        _row("connections", f"{tally.connections:,} made; cut: {_reasons(_cut(books.cut_by, refused=False))}"),
        _row("refused", _reasons(_cut(books.cut_by, refused=True))),
        _row("parked", f"{parked:,} disconnected between two messages, {unexplained} of them unexplained"),
        _row("wrong", wrong or "0 answered twice, 0 out of order, 0 of somebody else"),
        _row("waits", _waits(result)),
        _row("generations", f"at most {result.most_generations} at the same time"),
    ]
    if result.rest is not None:
        rest = result.rest
        lines.append(
            _row(
                "supervisor",
                f"descriptors {_change(*rest.descriptors)}, threads {_change(*rest.threads)}, memory "
                f"{(rest.rss_bytes[1] - rest.rss_bytes[0]) / (1 << 20):+.1f} MiB, {rest.zombies} zombies, "
                f"idle at {rest.idle_share:.1%} of a core",
            )
        )
    return "\n".join([*lines, "", *_verdict(result)]) + "\n"


def _figures(result: Result) -> list[str]:
    """What was measured of each abuse; of several of a kind the worst."""
    lines: list[str] = []
    last = ""
    for figure in worst(result.books.figures):
        lines.append(_row(figure.fault if figure.fault != last else "", figure.text()))
        last = figure.fault
    return [*lines, ""] if lines else []


def _waits(result: Result) -> str:
    waits = result.tally.waits
    if not waits.count:
        return "nothing was answered"
    worst_s = result.worst_stall_s  # exact, which the percentiles are not
    p50, p99 = (_time(min(worst_s, waits.percentile(percent) / 1e9)) for percent in (50, 99))
    return f"p50 {p50}, p99 {p99}, worst stall {_time(worst_s)}"


def _fault_row(name: str, count: Count) -> str:
    took = [_time(value) if (value := count.took(percent)) is not None else "" for percent in (50, 99, 100)]
    stall = _time(count.worst_stall_s) if count.worst_stall_s else "< 50 ms"
    figures = f"{took[0]:>14}{took[1]:>10}{took[2]:>10}{count.lost:>8,}{count.cut:>8,}{stall:>13}"
    return f"  {name:<{_NAME}}{count.injected:>7,}{figures}"


def _verdict(result: Result) -> list[str]:
    if not result.broken:
        return ["Every promise was kept."]
    more = result.books.broken_more
    count = len(result.broken) + more
    lines = [f"{counted(count, '# promise was|# promises were')} broken:"]
    lines += [f"  - {f'step {each.step}: ' if each.step else ''}{each.what}" for each in result.broken]
    lines += [f"  - and {more:,} more"] if more else []
    return [*lines, "", f"repeat it: {result.plan.command()}"]


def _reasons(counter: "Counter[tuple[How, str]]") -> str:
    by: Counter[str] = Counter()
    for (_, fault), count in counter.items():
        by[fault] += count
    total = sum(by.values())
    reasons = ", ".join(f"{fault or 'UNEXPLAINED'} {count:,}" for fault, count in by.most_common() if count)
    return f"{total:,}" + (f" ({reasons})" if reasons else "")


def _cut(counter: "Counter[tuple[How, str]]", *, refused: bool) -> "Counter[tuple[How, str]]":
    """Without those that were not made, or only those."""
    return Counter({key: count for key, count in counter.items() if (key[0] is How.REFUSED) is refused})


def _unexplained(counter: "Counter[tuple[How, str]]") -> int:
    return sum(count for (how, by), count in counter.items() if how is How.PARKED and not by)


def _row(name: str, text: str) -> str:
    return f"  {name:<{_NAME}}{text}"


def _change(before: int, after: int) -> str:
    return f"{after - before:+d}" if after != before else "as before"


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def progress_text(seconds: float, injected: int, fault: str, answered: int, broken: int) -> str:
    """One line while it runs."""
    trouble = f" · {counted(broken, '# promise|# promises')} broken" if broken else ""
    return f"{seconds:.0f} s · {counted(injected, 'fault')} · {fault} · {answered:,} answered{trouble}"
