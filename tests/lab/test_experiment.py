"""lab/experiment.py: what is said when too little was measured."""

from paceline.lab.catalogue import experiment_of
from paceline.lab.experiment import Machine, Verdict, how
from paceline.lab.samples import Samples
from paceline.lab.texts import Text


def test_too_little_is_neither_held_nor_refuted() -> None:
    verdict = Verdict.unknown()
    assert verdict.held is None
    assert verdict.figures == {}
    assert verdict.text.en
    assert verdict.text.zh


def test_without_samples_nothing_is_judged() -> None:
    experiment = experiment_of("creation")
    assert experiment.verdict_on(Machine(2, True), Samples()) == Verdict.unknown()
    took = Samples.made({"case": case, "round": 1, "took_us": 50.0} for case in ("pool", "thread", "fork", "spawn"))
    verdict = experiment.verdict_on(Machine(2, True), took)
    assert verdict == experiment.judge(Machine(2, True), took)
    assert verdict.held is False


def test_a_text_says_how_it_went_in_both_languages() -> None:
    text = Text("{how} here.", "在这台机器上{how_zh}。")
    assert text.filled(**how(True)) == Text("It held here.", "在这台机器上预测成立。")
    assert text.filled(**how(False)) == Text("It did not hold here.", "在这台机器上预测不成立。")
