"""lab/experiment.py: what is said when too little was measured."""

from paceline.lab.experiment import Verdict


def test_too_little_is_neither_held_nor_refuted() -> None:
    verdict = Verdict.unknown()
    assert verdict.held is None
    assert verdict.figures == {}
    assert verdict.text.en
    assert verdict.text.zh
