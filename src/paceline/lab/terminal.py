"""What the terminal shows: an experiment in short, how far the run is, the list.  Pure."""

from collections.abc import Sequence

from paceline.lab.columns import padded, width, wrapped
from paceline.lab.experiment import MARKS, Experiment, Machine, Table, cut_short
from paceline.lab.samples import Samples
from paceline.lab.texts import Text

MOST_ROWS = 16
"""A longer table is cut: the report has all of it."""
WIDEST = 100
_NARROWEST_COLUMN = 10

PREDICTED, MEASURED, VERDICT = Text("Predicted", "预测"), Text("Measured", "实测"), Text("Verdict", "结论")
MORE_ROWS = Text("… and {count} more rows, in the report", "……另有 {count} 行，见报告")
LIST_HEAD = Text(
    "Experiments, in the order of the lesson, and about how many seconds each takes: with --quick, and without.",
    "实验列表（按课程顺序），以及各自大约需要的秒数：加 --quick 时，与不加时。",
)
TOGETHER = Text("all of them", "全部")
PROGRESS = Text(
    "{name} ({number} of {count}): {done} %, about {time} left",
    "{name}（第 {number} 个，共 {count} 个）：{done} %，大约还需 {time}",
)
KEPT = Text(
    "Seed {seed}. The results are in {folder}; draw them by:  {command}",
    "随机种子 {seed}。结果保存在 {folder}；用这条命令生成报告：  {command}",
)
INTERRUPTED = Text(
    "interrupted; what was measured so far is kept in {folder}: {command}",
    "已中断；到此为止测得的数据保存在 {folder}：{command}",
)
FAILED = Text("{name}: {why}; what it had measured is kept", "{name}：{why}；已测得的数据仍然保留")


def text_of(
    experiment: Experiment, machine: Machine, samples: Samples, *, why: str, language: str, columns: int
) -> str:
    """Question, prediction, table and verdict, no wider than so many columns.  `why` it was cut short, if it was."""
    verdict = experiment.verdict_on(machine, samples)
    labels = [PREDICTED[language], MEASURED[language], f"{VERDICT[language]} {MARKS[verdict.held]}"]
    indent = max(width(label) for label in labels) + 4
    room = max(20, min(columns, WIDEST) - indent)
    parts = [
        wrapped(experiment.predict(machine).text[language], room),
        table_lines((experiment.summarize or experiment.tabulate)(machine, samples), language, room) if samples else [],
        wrapped(verdict.text[language], room),
    ]
    head = f"{experiment.name}{'：' if language == 'zh' else ': '}{experiment.question[language]}"
    lines = [*wrapped(head, indent + room), ""]
    for label, part in zip(labels, parts, strict=True):
        for number, line in enumerate(part):
            lines.append(f"{padded(f'  {label}' if number == 0 else '', indent)}{line}".rstrip())
        lines += [""] if part else []
    if why:
        lines += [f"  {line}" for line in wrapped(cut_short(why)[language], room + indent - 2)] + [""]
    return "\n".join(lines) + "\n"


def list_text(experiments: Sequence[Experiment], language: str) -> str:
    """All experiments, and how long they take."""
    rows = [(it.name, it.quick_s, it.full_s, it.question[language]) for it in experiments]
    rows.append(("", sum(row[1] for row in rows), sum(row[2] for row in rows), TOGETHER[language]))
    longest = max(len(row[0]) for row in rows)
    lines = [f"  {name:<{longest}}{quick:>7,.0f} s{full:>7,.0f} s  {what}" for name, quick, full, what in rows]
    return "\n".join([LIST_HEAD[language], "", *lines[:-1], "", lines[-1]]) + "\n"


def table_lines(table: Table, language: str, columns: int) -> list[str]:
    """The table, its cells broken where it would be wider than so many columns; numbers to the right."""
    heads = [text[language] for text in table.columns]
    rows = [[text[language] for text in row] for row in table.rows[:MOST_ROWS]]
    if not rows:
        return []
    across = list(zip(heads, *rows, strict=True))
    widths = _fitting([max(width(cell) for cell in cells) for cells in across], columns - 2 * (len(heads) - 1))
    is_right = [all(_is_number(cell) for cell in cells[1:]) for cells in across]
    lines: list[str] = []
    for row in [heads, *rows]:
        broken = [wrapped(cell, room) or [""] for cell, room in zip(row, widths, strict=True)]
        for number in range(max(len(cell) for cell in broken)):
            pieces = [cell[number] if number < len(cell) else "" for cell in broken]
            line = "  ".join(map(padded, pieces, widths, is_right))
            lines.append(line.rstrip())
    rest = len(table.rows) - len(rows)
    return lines + ([MORE_ROWS.filled(count=rest)[language]] if rest else [])


def _fitting(widths: list[int], room: int) -> list[int]:
    while sum(widths) > room and max(widths) > _NARROWEST_COLUMN:
        widest = widths.index(max(widths))
        widths = [*widths[:widest], widths[widest] - 1, *widths[widest + 1 :]]
    return widths


def _is_number(cell: str) -> bool:
    return cell == "" or cell[0].isdecimal() or cell[0] in "-−–—+±≈<>≥≤"


# How far it is


def left_s(expected_s: Sequence[float], at: int, share: float, seconds: float) -> float:
    """The seconds until the end of all experiments, of which number `at` has run for so many, and done that share.

    By what each takes as a rule, and for this one by how it went, when a tenth of it has been done.
    """
    this = seconds * (1 - share) / share if share >= 0.1 else max(0.0, expected_s[at] - seconds)
    return this + sum(expected_s[at + 1 :])


def progress_text(name: str, number: int, count: int, share: float, left: float) -> Text:
    """`creation (3 of 12): 40 %, about 1:05 left`."""
    time = f"{int(left) // 60}:{int(left) % 60:02}"
    return PROGRESS.filled(name=name, number=number, count=count, done=round(share * 100), time=time)


# What is said at the end


def kept_text(seed: int, folder: str, command: str) -> Text:
    """Where the results are, and how they are drawn."""
    return KEPT.filled(seed=seed, folder=folder, command=command)


def interrupted_text(folder: str, command: str) -> Text:
    return INTERRUPTED.filled(folder=folder, command=command)


def failed_text(name: str, why: str) -> Text:
    return FAILED.filled(name=name, why=why)
