"""The report: one HTML page from kept files alone, in one language.  It needs no network and no script.

The same files give the same page, byte for byte.  It reads on a projector and on a phone, on light and on dark ground.
Whatever is not of this file is escaped where it is put in.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from paceline import __version__
from paceline.errors import PacelineError
from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.drawing import svg
from paceline.lab.experiment import MARKS, Experiment, Table, Verdict, cut_short
from paceline.lab.listings import marked
from paceline.lab.plots import Plot
from paceline.lab.records import Kept
from paceline.lab.samples import Samples
from paceline.lab.style import STYLE
from paceline.lab.texts import Text, joined, same

OVER = Text("The lab of Paceline", "Paceline 实验室")
TITLE = Text("Processes, threads and the GIL, measured", "进程、线程与 GIL：实测报告")
LEAD = Text(
    "Each experiment asks one question, says what theory predicts, measures, and says whether it held here.",
    "每个实验提出一个问题，给出理论的预测，进行测量，并说明预测在这台机器上是否成立。",
)
CONTENTS, UP = Text("Experiments", "实验"), Text("All experiments", "全部实验")
PREDICTED, VERDICT = Text("Prediction", "预测"), Text("Verdict", "结论")
CODE, FIGURES = Text("The code that was run", "运行的代码"), Text("All figures", "全部数据")
HELD = {
    True: Text("held", "成立"),
    False: Text("did not hold here", "在此不成立"),
    None: Text("too little was measured", "数据不足"),
}
CLASSES = {True: "held", False: "not-held", None: "unknown"}
REPEATED = Text("Rounds: {times} of each of {cases} cases.", "{cases} 种情形，每种测 {times} 轮。")
REPEATED_ONE = Text("Rounds: {times}.", "共测 {times} 轮。")
KEPT = Text("{samples} records, {kind}, seed {seed}.", "共 {samples} 条记录，{kind}，随机种子 {seed}。")
TOOK = Text("It took {seconds:.1f} s.", "用时 {seconds:.1f} 秒。")
BEGUN = Text("Begun {at}.", "开始于 {at}。")
LOADED = Text("Load of the machine before: {load}.", "开始前的系统负载：{load}。")
ELSEWHERE = Text(
    "Measured on another machine, or in another way, than the first:", "测量的机器或方式与第一个实验不同："
)
FOREIGN = Text(
    "These samples are not as this version of the lab writes them, so nothing can be drawn or concluded; Paceline "
    "{version} has written them.",
    "这些数据的格式与本版本的实验室不符，无法绘图，也无法下结论；它们由 Paceline {version} 写成。",
)
JUDGED = Text(
    "Measured by Paceline {then}, judged and drawn by {now}.", "由 Paceline {then} 测量，由 {now} 判断和绘图。"
)
MEASURED_BY = Text("Measured with: {settings}.", "测量设置：{settings}。")
QUICK, FULL = Text("a quick run", "快速运行"), Text("a full run", "完整运行")
FACTS = {
    "processor": Text("Processor", "处理器"),
    "cores": Text("Usable cores", "可用的核"),
    "memory_mib": Text("Memory", "内存"),
    "kernel": Text("Kernel", "内核"),
    "python": Text("Python", "Python"),
    "gil": Text("GIL", "GIL"),
    "switch_interval_s": Text("Switch interval", "切换间隔"),
    "paceline": Text("Paceline", "Paceline"),
}
UNITS = {"memory_mib": " MiB", "switch_interval_s": " s"}
ON, OFF = Text("on", "启用"), Text("off", "关闭")
BEGAN, SETTINGS = Text("Measured", "测量时间"), Text("Settings", "设置")
_SHORT_TABLE = 12
"""One with more rows is folded."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """An experiment of the page: what was kept, and what is made of it now.  `is_foreign`: nothing could be."""

    kept: Kept
    experiment: Experiment
    verdict: Verdict
    pictures: Sequence[tuple[str, str]]
    table: str
    is_foreign: bool = False


def html_of(kept: Sequence[Kept], language: str) -> str:
    """The page, `en` or `zh`.  Raises HostError when what draws is not installed."""
    all_shown = [_shown(one, language) for one in kept]
    parts = "".join(
        _part(f"{number} / {len(kept)}", shown, kept[0], language) for number, shown in enumerate(all_shown, 1)
    )
    items = "".join(_item(shown, language) for shown in all_shown)
    title = escape(TITLE[language])
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n"
        f'<p class="over">{escape(OVER[language])}</p>\n<h1>{title}</h1>\n'
        f'<p class="lead">{escape(LEAD[language])}</p>\n'
        f"{_count([shown.verdict for shown in all_shown], language)}{_facts(kept, language)}</header>\n"
        f'<nav id="contents" aria-labelledby="contents-title">\n'
        f'<h2 class="over" id="contents-title">{escape(CONTENTS[language])}</h2>\n<ol>\n{items}</ol>\n</nav>\n'
        f"{parts}</main>\n</body>\n</html>\n"
    )


def note_of(question: Text, plots: Sequence[Plot], verdict: Verdict, language: str) -> str:
    """One experiment for a notebook: question, pictures, verdict."""
    figures = "".join(svg(plot, language) for plot in plots)
    return (
        f"<h3>{escape(question[language])}</h3>\n{figures}"
        f"<p>{MARKS[verdict.held]} {escape(verdict.text[language])}</p>\n"
    )


def _shown(kept: Kept, language: str) -> _Shown:
    experiment, its, samples = experiment_of(kept.experiment), machine.machine_of(kept.machine), kept.samples
    if not samples:
        return _Shown(kept, experiment, Verdict.unknown(), (), "")
    try:
        return _Shown(
            kept,
            experiment,
            experiment.verdict_on(its, samples),
            [(plot.title[language], svg(plot, language)) for plot in experiment.draw(its, samples)],
            _table(experiment.tabulate(its, samples), language),
        )
    except PacelineError:
        raise
    except Exception:  # noqa: BLE001 - samples of another version may lack anything
        said = FOREIGN.filled(version=kept.machine.get("paceline", "?"))
        return _Shown(kept, experiment, Verdict(None, said), (), "", is_foreign=True)


# The head


def _count(verdicts: Sequence[Verdict], language: str) -> str:
    """How many held, and so on."""
    counts = {held: sum(verdict.held is held for verdict in verdicts) for held in HELD}
    items = "".join(
        f'<li class="{CLASSES[held]}">{_mark(held)}{count} {escape(HELD[held][language])}</li>\n'
        for held, count in counts.items()
        if count
    )
    return f'<ul class="count">\n{items}</ul>\n'


def _mark(held: bool | None) -> str:
    return f'<span class="mark" aria-hidden="true">{MARKS[held]}</span>'


def _item(shown: _Shown, language: str) -> str:
    held = shown.verdict.held
    return (
        f'<li><a class="{CLASSES[held]}" href="#{shown.experiment.name}">{_mark(held)}'
        f"<span>{escape(shown.experiment.question[language])}</span>"
        f'<span class="said">{escape(HELD[held][language])}</span></a></li>\n'
    )


def _facts(kept: Sequence[Kept], language: str) -> str:
    """The machine of the first; whatever was measured elsewhere says so in its own part."""
    rows = [(FACTS[key][language], _fact(key, value, language)) for key, value in _known(kept[0].machine)]
    times = sorted({_minute(one.began) for one in kept})
    rows.append((BEGAN[language], times[0] if len(times) == 1 else f"{times[0]} – {times[-1]}"))
    kinds = sorted({_kind(one)[language] for one in kept})
    rows.append((SETTINGS[language], ", ".join(kinds)))
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in rows)
    return f'<dl class="facts">\n{items}</dl>\n'


def _kind(kept: Kept) -> Text:
    return QUICK if kept.settings.get("quick") else FULL


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _known(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, facts[key]) for key in FACTS if facts.get(key) is not None]


def _fact(key: str, value: object, language: str) -> str:
    match value:
        case bool():
            return (ON if value else OFF)[language]
        case int():
            return f"{value:,}{UNITS.get(key, '')}"
    return f"{value}{UNITS.get(key, '')}"


# One experiment


def _part(place: str, shown: _Shown, first: Kept, language: str) -> str:
    kept, experiment = shown.kept, shown.experiment
    figures = "".join(
        f'<figure>\n<figcaption>{escape(title)}</figcaption>\n<div class="wide" {_scrolled(title)}>{picture}</div>\n'
        "</figure>\n"
        for title, picture in shown.pictures
    )
    return (
        f'<section id="{experiment.name}">\n<p class="over">{place} · {experiment.name}</p>\n'
        f"<h2>{escape(experiment.question[language])}</h2>\n"
        f"<p>{escape(experiment.explains[language])}</p>\n"
        f"<details>\n<summary>{escape(CODE[language])}</summary>\n"
        f"<pre {_scrolled(CODE[language])}><code>{marked(kept.code)}</code></pre>\n</details>\n"
        f'<div class="prediction"><h3>{escape(PREDICTED[language])}</h3>'
        f"<p>{escape(kept.prediction.text[language])}</p></div>\n"
        f"{figures}{_verdict(shown.verdict, language)}{_cut_short(kept, language)}{shown.table}"
        f'<p class="note">{escape(_how(kept)[language])}</p>\n{_differences(kept, first, language)}'
        f'<p class="up"><a href="#contents">↑ {escape(UP[language])}</a></p>\n</section>\n'
    )


def _scrolled(name: str) -> str:
    """What may be wider than the page, for the keyboard and for who hears the page."""
    return f'tabindex="0" role="region" aria-label="{escape(name)}"'


def _verdict(verdict: Verdict, language: str) -> str:
    colon = "：" if language == "zh" else ": "
    head = f"{VERDICT[language]}{colon}{HELD[verdict.held][language]}"
    return (
        f'<div class="verdict {CLASSES[verdict.held]}"><h3>{_mark(verdict.held)}{escape(head)}</h3>'
        f"<p>{escape(verdict.text[language])}</p></div>\n"
    )


def _cut_short(kept: Kept, language: str) -> str:
    if kept.finished:
        return ""
    return f'<p class="cut">{escape(cut_short(kept.why)[language])}</p>\n'


def _how(kept: Kept) -> Text:
    """How often, in which way, when."""
    kind, seed, load = _kind(kept), kept.settings.get("seed", "–"), kept.machine.get("load_average")
    count = f"{len(kept.samples):,}"
    said = Text(
        KEPT.en.format(samples=count, kind=kind.en, seed=seed), KEPT.zh.format(samples=count, kind=kind.zh, seed=seed)
    )
    more = {name: value for name, value in kept.settings.items() if name not in ("quick", "seed")}
    then = kept.machine.get("paceline", __version__)
    return joined(
        _repeated(kept.samples),
        said,
        MEASURED_BY.filled(settings=", ".join(map(_setting, more.items()))) if more else same(""),
        JUDGED.filled(then=then, now=__version__) if then != __version__ else same(""),
        BEGUN.filled(at=_minute(kept.began)),
        TOOK.filled(seconds=kept.seconds) if kept.seconds is not None else same(""),
        LOADED.filled(load=" · ".join(map(str, load))) if isinstance(load, list) and load else same(""),
    )


def _setting(setting: tuple[str, object]) -> str:
    name, value = setting
    return f"{name} {' · '.join(map(str, value)) if isinstance(value, list) else value}"


def _repeated(samples: Samples) -> Text:
    counts = sorted({len(samples.of(case)) for case in samples.cases})
    if not counts:
        return same("")
    times = same(f"{counts[0]:,}")
    if len(counts) > 1:
        times = Text(f"{counts[0]:,} to {counts[-1]:,}", f"{counts[0]:,} 至 {counts[-1]:,}")
    text, cases = REPEATED_ONE if len(samples.cases) == 1 else REPEATED, len(samples.cases)
    return Text(text.en.format(times=times.en, cases=cases), text.zh.format(times=times.zh, cases=cases))


def _differences(kept: Kept, first: Kept, language: str) -> str:
    """What is not as the head of the page says."""
    found = [
        f"{FACTS[key][language]} {_fact(key, value, language)}"
        for key, value in _known(kept.machine)
        if value != first.machine.get(key)
    ]
    if not found:
        return ""
    return f'<p class="note">{escape(ELSEWHERE[language])} {escape("; ".join(found))}</p>\n'


_NUMBER = re.compile(r"[-−–—+±≈~<>≥≤]?\s*[\d–—]")


def _table(table: Table, language: str) -> str:
    """Open, unless it is long."""
    if not table.rows:
        return ""
    texts = [[cell[language] for cell in row] for row in table.rows]
    styles = [
        ' class="number"' if _is_of_numbers(number, column) else ""
        for number, column in enumerate(zip(*texts, strict=True))
    ]
    head = "".join(
        f'<th scope="col"{style}>{escape(column[language])}</th>'
        for column, style in zip(table.columns, styles, strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row"{styles[0]}>{escape(first)}</th>'
        + "".join(f"<td{style}>{escape(cell)}</td>" for cell, style in zip(cells, styles[1:], strict=True))
        + "</tr>\n"
        for first, *cells in texts
    )
    return (
        f"<details{' open' if len(texts) <= _SHORT_TABLE else ''}>\n<summary>{escape(FIGURES[language])}</summary>\n"
        f'<div class="wide" {_scrolled(FIGURES[language])}><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table></div>\n</details>\n"
    )


def _is_of_numbers(number: int, column: Sequence[str]) -> bool:
    """Most are numbers; all in the first one, which names its rows as a rule."""
    found = [bool(_NUMBER.match(cell)) for cell in column]
    return all(found) if number == 0 else 2 * sum(found) > len(found)
