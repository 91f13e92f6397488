"""Tables and pictures from kept results alone: `python -m benchmarks.report FILE… --to docs/benchmarks.md`.

Pure, but for `write` and `main`.  The same files give the same report, byte for byte.  What people have to say about
the figures stands in remarks.md and goes below the head.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import plots
from benchmarks.metrics import METRICS
from benchmarks.records import Kept, read_all
from benchmarks.rows import ROWS
from benchmarks.spreads import Results
from benchmarks.terms import Goal
from paceline.stats.spread import Spread

REMARKS = Path(__file__).parent / "remarks.md"

NOISY_CORES = 0.1
"""When other programs keep more than this busy, throughput and latency tell less than CPU time does."""

COUNTS = ("threads_max", "quick_late")
"""What a goal bounds as it is, without a fraction."""

FULL = 0.95
"""A core that is busy for more than this share of the time is the limit."""


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
    digits = 0 if goal.bound >= 50 or goal.metric in COUNTS else 2
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
        spreads = [(results.shown(trial.name, metric), METRICS[metric].digits) for metric in shown]
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


def section(results: Results, pictures: str | None = None) -> str:
    """One row of the table, with its picture, its goals, its competitors and its remarks."""
    picture = plots.picture_of(results) if pictures is not None else None
    parts = [f"## {results.row.number} · {results.row.title}"]
    if picture is not None:
        parts.append(f"![{picture.in_short}]({pictures}/{picture.name})")
    return "\n\n".join([*parts, goals_table(results), trials_table(results), *remarks(results)])


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


def report(kept: Kept, *, by_hand: str = "", pictures: str | None = None) -> str:
    """The whole report in Markdown; `pictures` is where they are as seen from it, None when there are none.

    Raises ValueError when there is nothing to report, or of several machines.
    """
    if not kept.runs or not kept.records:
        raise ValueError("there are no results in it")
    sections = [section(results, pictures) for row in ROWS.values() if (results := Results(row, kept.records))]
    return "\n\n".join(["# Benchmarks", head(kept), *([by_hand.strip()] if by_hand else []), *sections]) + "\n"


def write(kept: Kept, path: Path) -> None:
    """The report in that file, its pictures in the folder of the same name beside it.

    Raises ValueError as `report` does, plots.NoMatplotlib, OSError.
    """
    folder = path.with_suffix("")
    by_hand = REMARKS.read_text(encoding="utf-8") if REMARKS.exists() else ""
    text = report(kept, by_hand=by_hand, pictures=folder.name)
    plots.write(kept, folder)
    path.write_text(text, encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """Prints or writes the report of all files together; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="A report of kept results.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines that a run kept")
    parser.add_argument("--to", type=path_of_report, metavar="FILE.md", help="write it there, with pictures beside it")
    options = parser.parse_args(words)
    try:
        kept = read_all(options.files)
        if options.to is None:
            print(report(kept), end="")
        else:
            write(kept, options.to)
    except (OSError, ValueError, plots.NoMatplotlib) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def path_of_report(text: str) -> Path:
    """As argparse wants it: with a suffix, so that the pictures' folder has another name."""
    if not Path(text).suffix:
        raise argparse.ArgumentTypeError(f"{text}: the report's name needs a suffix: {text}.md")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
