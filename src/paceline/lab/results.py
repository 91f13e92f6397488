"""What comes of an experiment: its file, read and judged.  Drawn when somebody looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.experiment import Machine, Prediction, Verdict
from paceline.lab.plots import Plot
from paceline.lab.records import Kept
from paceline.lab.samples import Samples


@dataclass(frozen=True, slots=True)
class Result:
    """One experiment, measured and judged.  A notebook shows it with its pictures.

    finished   False when it was cut short, or failed: `why` says so
    path       of the file; None when nobody wanted it kept
    """

    name: str
    machine: Machine
    settings: dict[str, Any]
    samples: Samples
    seconds: float
    finished: bool
    why: str
    prediction: Prediction
    verdict: Verdict
    path: Path | None

    @property
    def plots(self) -> Sequence[Plot]:
        """The pictures, as values."""
        return experiment_of(self.name).draw(self.machine, self.samples) if self.samples else ()

    def _repr_html_(self) -> str:
        from paceline.lab.page import note_of

        return note_of(experiment_of(self.name).question, self.plots, self.verdict, "en")


def result_of(kept: Kept) -> Result:
    """What a file says, judged."""
    its = machine.machine_of(kept.machine)
    verdict = experiment_of(kept.experiment).verdict_on(its, kept.samples)
    return Result(
        kept.experiment, its, kept.settings, kept.samples, kept.seconds or 0.0, kept.finished, kept.why,
        kept.prediction, verdict, kept.path,
    )  # fmt: skip
