"""What an experiment is: a question, what theory predicts, how it is measured, what is concluded.  Pure.

Each has a file in experiments/, whose `EXPERIMENT` is one of these.  `measure` runs in a process of its own (study.py)
and only writes samples; everything else is a function of the machine and the samples, so that a report can be drawn
years later from the files alone, without the server's code.  That is why `measure` imports what it needs itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from paceline.lab.plots import Plot
from paceline.lab.samples import Samples
from paceline.lab.texts import Text, same

if TYPE_CHECKING:
    from paceline.lab.study import Study


@dataclass(frozen=True, slots=True)
class Machine:
    """What predictions depend on.

    cores     that this process may use
    has_gil   False on a free-threaded build that runs without it
    facts     everything that was found out, for the reader
    """

    cores: int
    has_gil: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """In a sentence, and the numbers in it."""

    text: Text
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """In a sentence with numbers.  `held` is None when too little was measured to say."""

    held: bool | None
    text: Text
    figures: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def unknown() -> "Verdict":
        """It was ended too early."""
        return Verdict(
            None,
            Text(
                "Too little was measured to say; run it again to its end.",
                "测得的数据太少，无法下结论；请重新运行到结束。",
            ),
        )


MARKS = {True: "✓", False: "✗", None: "?"}
"""Of verdicts, by whether they held."""
_CUT_SHORT = Text("Cut short: {why}.", "提前结束：{why}。")
_WHYS = {"": Text("nobody wrote its end", "没有写下结尾"), "interrupted": Text("interrupted", "被中断")}


def cut_short(why: str) -> Text:
    """What is said of an experiment that did not come to its end; `why` as its file has it."""
    said = _WHYS.get(why, same(why))
    return Text(_CUT_SHORT.en.format(why=said.en), _CUT_SHORT.zh.format(why=said.zh))


def how(held: bool) -> dict[str, str]:
    """Fills in `{how} here` and `{how_zh}` of a verdict's text."""
    if held:
        return {"how": "It held", "how_zh": "预测成立"}
    return {"how": "It did not hold", "how_zh": "预测不成立"}


@dataclass(frozen=True, slots=True)
class Table:
    """The figures behind the pictures."""

    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question.

    explains   for a student: what this is about, in some sentences
    shown      the functions whose source is shown as the code that was run
    summarize  the table of the terminal, where that of the page is too long for it
    quick_s    about how long `--quick` takes on two cores; full_s without it
    """

    name: str
    question: Text
    explains: Text
    shown: Sequence[Callable[..., Any]]
    predict: Callable[[Machine], Prediction]
    measure: Callable[["Study"], None]
    judge: Callable[[Machine, Samples], Verdict]
    draw: Callable[[Machine, Samples], Sequence[Plot]]
    tabulate: Callable[[Machine, Samples], Table]
    quick_s: float
    full_s: float
    summarize: Callable[[Machine, Samples], Table] | None = None

    def verdict_on(self, machine: Machine, samples: Samples) -> Verdict:
        """What is concluded, be it that nothing can be."""
        return self.judge(machine, samples) if samples else Verdict.unknown()
