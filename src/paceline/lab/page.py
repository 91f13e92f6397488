"""The report: one HTML page from kept files alone, in one language.  It needs no network and no script.

The same files give the same page, byte for byte.  It reads on a projector and on a phone, on light and on dark ground.
"""

import inspect
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.drawing import svg
from paceline.lab.experiment import Experiment, Machine, Table, Verdict
from paceline.lab.records import Kept
from paceline.lab.texts import Text, same

TITLE = Text("Processes, threads and the GIL, measured on this machine", "进程、线程与 GIL：在这台机器上的实测")
LEAD = Text(
    "Each experiment asks one question, says what theory predicts, measures, and says whether it held here.",
    "每个实验提出一个问题，给出理论的预测，进行测量，并说明预测在这台机器上是否成立。",
)
PREDICTED, VERDICT = Text("Prediction", "预测"), Text("Verdict", "结论")
CODE, FIGURES = Text("The code that was run", "运行的代码"), Text("All figures", "全部数据")
HELD = {
    True: Text("held", "成立"),
    False: Text("did not hold here", "在此不成立"),
    None: Text("too little was measured", "数据不足"),
}
MARKS = {True: "✓", False: "✗", None: "?"}
CLASSES = {True: "held", False: "not-held", None: "unknown"}
CUT_SHORT = Text("Cut short: {why}.", "提前结束：{why}。")
KEPT = Text(
    "{samples} measurements in {seconds:.1f} s, {kind}, seed {seed}.",
    "{samples} 次测量，用时 {seconds:.1f} 秒，{kind}，随机种子 {seed}。",
)
QUICK, FULL = Text("a quick run", "快速运行"), Text("a full run", "完整运行")
FACTS = {
    "processor": Text("Processor", "处理器"),
    "cores": Text("Usable cores", "可用核心"),
    "memory_mib": Text("Memory (MiB)", "内存（MiB）"),
    "kernel": Text("Kernel", "内核"),
    "python": Text("Python", "Python"),
    "gil": Text("GIL", "GIL"),
    "switch_interval_s": Text("Switch interval (s)", "切换间隔（秒）"),
    "load_average": Text("Load when it began", "开始时的负载"),
    "paceline": Text("Paceline", "Paceline"),
}
ON, OFF = Text("on", "启用"), Text("off", "关闭")
BEGAN = Text("Measured", "测量时间")

_STYLE = """
:root { color-scheme: light dark; --font: system-ui, -apple-system, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK SC',
  'PingFang SC', 'Microsoft YaHei', sans-serif; --ground: #ffffff; --panel: #f6f8fa; --ink: #1f2328; --quiet: #59636e;
  --grid: #d1d9e0; --series-0: #0969da; --series-1: #bc4c00; --series-2: #1a7f37; --series-3: #8250df;
  --series-4: #bf3989; --series-5: #6e7781; --held: #1a7f37; --not-held: #bc4c00; }
@media (prefers-color-scheme: dark) { :root { --ground: #0d1117; --panel: #161b22; --ink: #f0f6fc; --quiet: #9198a1;
  --grid: #3d444d; --series-0: #4493f8; --series-1: #f0883e; --series-2: #3fb950; --series-3: #ab7df8;
  --series-4: #f778ba; --series-5: #9198a1; --held: #3fb950; --not-held: #f0883e; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1.125rem/1.6 var(--font); }
main { max-width: 54rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.7rem, 5vw, 2.6rem); line-height: 1.2; margin: 0 0 .6rem; text-wrap: balance; }
h2 { font-size: clamp(1.35rem, 4vw, 1.9rem); line-height: 1.25; margin: 0 0 .8rem; text-wrap: balance; }
h2 small { display: block; font-size: .9rem; font-weight: 600; color: var(--quiet); letter-spacing: .04em; }
h3 { font-size: 1rem; color: var(--quiet); margin: 1.6rem 0 .3rem; }
section { border-top: 1px solid var(--grid); margin-top: 3rem; padding-top: 2rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .1rem 1.2rem; font-size: .95rem; margin: 1.4rem 0; }
dt { color: var(--quiet); } dd { margin: 0; }
nav ol { list-style: none; padding: 0; margin: 1.5rem 0 0; }
nav a { display: flex; gap: .8rem; padding: .35rem 0; color: inherit; text-decoration: none; }
nav a:hover span:last-child, nav a:focus span:last-child { text-decoration: underline; }
.mark { flex: none; width: 1.4em; font-weight: 700; text-align: center; }
.held { color: var(--held); } .not-held { color: var(--not-held); } .unknown { color: var(--quiet); }
.verdict { border-left: .35rem solid currentColor; background: var(--panel); padding: .9rem 1.1rem; margin: 1.2rem 0;
  border-radius: 0 .4rem .4rem 0; }
.verdict p { margin: 0; color: var(--ink); font-size: 1.2rem; } .verdict strong { display: block; font-size: .95rem; }
figure { margin: 1.6rem 0; } figcaption { font-weight: 600; margin-bottom: .3rem; }
.wide { overflow-x: auto; } figure svg { display: block; width: 100%; min-width: 30rem; height: auto; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--quiet); }
pre { background: var(--panel); padding: 1rem; overflow-x: auto; font: .85rem/1.5 ui-monospace, monospace; }
table { border-collapse: collapse; font-size: .9rem; } th, td { padding: .3rem .9rem .3rem 0; text-align: left;
  border-bottom: 1px solid var(--grid); vertical-align: top; overflow-wrap: normal; }
.note { color: var(--quiet); font-size: .9rem; }
@media print { details { display: none; } section { break-inside: avoid-page; } }
"""


def html_of(kept: Sequence[Kept], language: str) -> str:
    """The page, `en` or `zh`.  Raises HostError when what draws is not installed."""
    judged = [_judged(one) for one in kept]
    items = "".join(_item(experiment, verdict, language) for experiment, _, verdict in judged)
    parts = "".join(
        _part(one, experiment, its, verdict, language)
        for one, (experiment, its, verdict) in zip(kept, judged, strict=True)
    )
    title = escape(TITLE[language])
    return (
        f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<header>\n<h1>{title}</h1>\n"
        f"<p>{escape(LEAD[language])}</p>\n{_facts(kept[0], language)}\n</header>\n"
        f"<nav>\n<ol>\n{items}</ol>\n</nav>\n{parts}</main>\n</body>\n</html>\n"
    )


def _judged(kept: Kept) -> tuple[Experiment, Machine, Verdict]:
    experiment, its = experiment_of(kept.experiment), machine.machine_of(kept.machine)
    return experiment, its, experiment.verdict_on(its, kept.samples)


def _facts(kept: Kept, language: str) -> str:
    rows = [(FACTS[key][language], _fact(value, language)) for key, value in _known(kept.machine)]
    began = datetime.fromtimestamp(kept.began, UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows.append((BEGAN[language], began))
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "</dl>"


def _known(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(key, facts[key]) for key in FACTS if key in facts]


def _fact(value: object, language: str) -> str:
    match value:
        case bool():
            return (ON if value else OFF)[language]
        case int():
            return f"{value:,}"
        case list():
            return " · ".join(map(str, value))
    return str(value)


def _item(experiment: Experiment, verdict: Verdict, language: str) -> str:
    held = f"{HELD[verdict.held][language]}"
    return (
        f'<li><a href="#{experiment.name}"><span class="mark {CLASSES[verdict.held]}" title="{escape(held)}">'
        f"{MARKS[verdict.held]}</span><span>{escape(experiment.question[language])}</span></a></li>\n"
    )


def _part(kept: Kept, experiment: Experiment, its: Machine, verdict: Verdict, language: str) -> str:
    """One experiment."""
    plots = experiment.draw(its, kept.samples) if kept.samples else ()
    figures = "".join(
        f"<figure><figcaption>{escape(plot.title[language])}</figcaption>"
        f'<div class="wide">{svg(plot, language)}</div></figure>\n'
        for plot in plots
    )
    table = _table(experiment.tabulate(its, kept.samples), language) if kept.samples else ""
    short = "" if kept.finished else f'<p class="note">{escape(_cut_short(kept)[language])}</p>\n'
    settings = kept.settings
    note = KEPT[language].format(
        samples=len(kept.samples), seconds=kept.seconds or 0.0, seed=settings.get("seed", "–"),
        kind=(QUICK if settings.get("quick") else FULL)[language],
    )  # fmt: skip
    return (
        f'<section id="{experiment.name}">\n'
        f"<h2><small>{experiment.name}</small>{escape(experiment.question[language])}</h2>\n"
        f"<p>{escape(experiment.explains[language])}</p>\n"
        f"<details><summary>{escape(CODE[language])}</summary>{_code(experiment)}</details>\n"
        f"<h3>{escape(PREDICTED[language])}</h3>\n<p>{escape(experiment.predict(its).text[language])}</p>\n"
        f"{figures}"
        f'<div class="verdict {CLASSES[verdict.held]}"><strong>{escape(VERDICT[language])}: '
        f"{escape(HELD[verdict.held][language])} {MARKS[verdict.held]}</strong>"
        f"<p>{escape(verdict.text[language])}</p></div>\n"
        f"{short}"
        f"<details><summary>{escape(FIGURES[language])}</summary>{table}</details>\n"
        f'<p class="note">{escape(note)}</p>\n</section>\n'
    )


def _cut_short(kept: Kept) -> Text:
    why = same(kept.why) if kept.why else Text("nobody wrote its end", "没有写下结尾")
    return Text(CUT_SHORT.en.format(why=why.en), CUT_SHORT.zh.format(why=why.zh))


def _code(experiment: Experiment) -> str:
    sources = [textwrap.dedent(inspect.getsource(function)) for function in experiment.shown]
    return f"<pre><code>{escape(chr(10).join(sources))}</code></pre>"


def _table(table: Table, language: str) -> str:
    head = "".join(f"<th>{escape(column[language])}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell[language])}</td>" for cell in row) + "</tr>\n" for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
