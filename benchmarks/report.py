"""Tables from kept results alone: `python -m benchmarks.report FILE… > docs/benchmarks.md`.  Pure, but for `main`.

Every figure is the median of its repetitions, with the lowest and the highest behind it.  A ratio is taken between two
trials of the same round, which ran within seconds of each other, and then the median of those ratios.
"""

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import Kept, Record, read
from benchmarks.rows import METRICS, ROWS, Goal, Row

NOISY_CORES = 0.1
"""When other programs keep more than this busy, throughput and latency tell less than CPU time does."""

FULL = 0.95
"""A core that is busy for more than this share of the time is the limit."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what lies around it."""

    median: float
    lowest: float
    highest: float
    count: int

    @staticmethod
    def of(values: Iterable[float]) -> "Spread | None":
        """None when there are no values."""
        values = list(values)
        return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None

    def text(self, digits: int) -> str:
        """`245,000 (238,000 … 251,000)`; without the spread when it says nothing more."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.lowest, self.highest))
        return middle if low == high else f"{middle} ({low} … {high})"


Key = tuple[str, int]
"""Run and round: what pairs the trials of a row."""


class Results:
    """The measured numbers of one row: trial → round → record."""

    def __init__(self, row: Row, records: Iterable[Record]) -> None:
        self.row = row
        self.failures: list[Record] = []
        self._by_trial: dict[str, dict[Key, Record]] = {}
        for record in records:
            if record.row != row.number:
                continue
            if record.error is not None:
                self.failures.append(record)
            else:
                self._by_trial.setdefault(record.trial, {})[record.run, record.round] = record

    def __bool__(self) -> bool:
        return bool(self._by_trial or self.failures)

    def values(self, trial: str, metric: str) -> dict[Key, float]:
        """The metric in each round in which it was measured."""
        records = self._by_trial.get(trial, {})
        return {key: record.numbers[metric] for key, record in records.items() if metric in record.numbers}

    def spread(self, trial: str, metric: str) -> Spread | None:
        return Spread.of(self.values(trial, metric).values())

    def ratio(self, metric: str, of: str, to: str | float) -> Spread | None:
        """`of` ÷ `to`, round by round; None when no round has both."""
        above = self.values(of, metric)
        below = self.values(to, metric) if isinstance(to, str) else dict.fromkeys(above, to)
        return Spread.of(value / below[key] for key, value in above.items() if below.get(key))

    def everything(self, metric: str) -> list[float]:
        """The metric of all trials and rounds."""
        return [value for trial in self._by_trial for value in self.values(trial, metric).values()]


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table that also reads well as plain text: the first column to the left, the others to the right."""
    lines = [head, *body]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def drawn(cells: Sequence[str]) -> str:
        right = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return f"| {' | '.join([cells[0].ljust(widths[0]), *right[1:]])} |"

    rule = ["-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([drawn(head), f"| {' | '.join(rule)} |", *map(drawn, body)])


def goals_table(results: Results) -> str:
    """What was to be reached, and whether it was."""
    with_cpu = any(goal.by_cpu for goal in results.row.goals)
    head = ["goal", "at", "reached", "median (lowest … highest)", *(["by CPU time"] if with_cpu else [])]
    return table(head, [_goal_line(results, goal, with_cpu) for goal in results.row.goals])


def _goal_line(results: Results, goal: Goal, with_cpu: bool) -> list[str]:
    found = results.ratio(goal.metric, goal.of, goal.to)
    digits = 0 if goal.bound >= 50 or goal.metric == "threads_max" else 2
    line = [
        goal.text,
        f"{goal.sense} {goal.bound:g}",
        "not measured" if found is None else "yes" if goal.is_reached(found.median) else "NO",
        "" if found is None else found.text(digits),
    ]
    if with_cpu:
        # CPU time per message is a cost, so the ratio that compares with a throughput's is the other way round.
        cost = results.ratio("cpu_us_per_message", str(goal.to), goal.of) if goal.by_cpu else None
        line.append("" if cost is None else cost.text(digits))
    return line


def trials_table(results: Results) -> str:
    """All competitors; the last columns compare ours with each."""
    row = results.row
    shown = [metric for metric in row.shows if results.everything(metric)]
    compared = results.spread(row.us, row.metric) is not None
    by_cpu = compared and row.metric == "messages_per_s"
    head = ["", *(METRICS[metric].title for metric in shown)]
    head += [f"{row.us} ÷ it"] * compared + ["its CPU ÷ ours"] * by_cpu
    body = []
    for trial in row.trials:
        spreads = [(results.spread(trial.name, metric), METRICS[metric].digits) for metric in shown]
        if not any(found for found, _ in spreads):
            continue
        cells = [found.text(digits) if found else "" for found, digits in spreads]
        if compared:
            cells.append(_ratio_text(results.ratio(row.metric, row.us, trial.name)))
        if by_cpu:
            cells.append(_ratio_text(results.ratio("cpu_us_per_message", trial.name, row.us)))
        body.append([trial.name, *cells])
    return table(head, body)


def _ratio_text(found: Spread | None) -> str:
    return "" if found is None else found.text(2)


def remarks(results: Results) -> list[str]:
    """What a reader must know to trust the figures, or not to."""
    found = [results.row.note] if results.row.note else []
    others = Spread.of(results.everything("others_busy"))
    if others is not None:
        text = f"Other programs kept {others.text(2)} of the cores in use busy meanwhile."
        if others.highest > NOISY_CORES:
            text += " Where that is much, trust CPU time per message more than throughput or latency."
        found.append(text)
    if limited := [trial.name for trial in results.row.trials if _load_was_the_limit(results, trial.name)]:
        found.append(
            f"The load generator's core was full and the server's was not: {', '.join(limited)} could do more than "
            f"shown; compare by CPU time."
        )
    for trial in dict.fromkeys(record.trial for record in results.failures):
        errors = [record.error or "" for record in results.failures if record.trial == trial]
        found.append(f"Failed, {len(errors)} ×: {trial}: {in_short(errors[0])}")
    return found


def in_short(error: str) -> str:
    """The first and the last line: what was tried, and what the program said last.  The record has all of it."""
    lines = error.strip().splitlines() or [""]
    return lines[0] if len(lines) == 1 else f"{lines[0]} … {lines[-1].strip()}"


def _load_was_the_limit(results: Results, trial: str) -> bool:
    load, server = (results.spread(trial, metric) for metric in ("load_busy", "server_busy"))
    is_open = any(results.row.trials[i].load.rate for i, it in enumerate(results.row.trials) if it.name == trial)
    return not is_open and load is not None and server is not None and load.median > FULL > server.median


def section(results: Results) -> str:
    """One row of the table, with its goals, its competitors and its remarks."""
    parts = [f"## {results.row.number} · {results.row.title}", goals_table(results), trials_table(results)]
    return "\n\n".join([*parts, *remarks(results)])


def head(kept: Kept) -> str:
    """On what, when and how.  Raises ValueError when the runs are of different machines."""

    def alike(name: str) -> set[str]:
        return {str(run.machine.get(name)) for run in kept.runs}

    for name in ("processor", "kernel", "python", "usable_cores"):
        if len(found := alike(name)) > 1:
            raise ValueError(f"different machines do not go into one table; {name}: {', '.join(sorted(found))}")
    machine = kept.runs[-1].machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
    dates = sorted({record.at[:10] for record in kept.records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    text = (
        f"Measured {when} on {machine.get('processor')}, {len(machine.get('usable_cores', []))} cores, "
        f"{machine.get('system')} {machine.get('kernel')}, {machine.get('python')}; {packages}; "
        f"commit {', '.join(sorted(alike('commit')))}."
    )
    settings = [run.settings for run in kept.runs]
    how = "; ".join(
        dict.fromkeys(f"{it['rounds']} rounds of {it['duration_s']:g} s after {it['warmup_s']:g} s" for it in settings)
    )
    text += f" Competitors interleaved, {how}; median (lowest … highest)."
    if any(it.get("quick") for it in settings):
        text += " **Quick run: rough figures.**"
    return text


def report(kept: Kept) -> str:
    """The whole report in Markdown.  Raises ValueError when there is nothing to report, or of several machines."""
    if not kept.runs or not kept.records:
        raise ValueError("there are no results in it")
    sections = [section(results) for row in ROWS.values() if (results := Results(row, kept.records))]
    return "\n\n".join(["# Benchmarks", head(kept), *sections]) + "\n"


def main(paths: Sequence[str]) -> int:
    """Prints the report of all files together; the exit code."""
    if not paths:
        print("usage: python -m benchmarks.report FILE…", file=sys.stderr)
        return 2
    kept = Kept([], [])
    for path in paths:
        try:
            found = read(Path(path))
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 2
        kept.runs.extend(found.runs)
        kept.records.extend(found.records)
    try:
        print(report(kept), end="")
    except ValueError as error:
        print(f"{', '.join(paths)}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
