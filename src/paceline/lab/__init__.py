"""The lab: what processes, threads and the GIL do, measured on this machine.

run("gil")              measure one experiment and judge it; `quick=True` with few repetitions
NAMES                   the experiments, in the order of the lesson

import paceline.lab

result = paceline.lab.run("gil", quick=True)
print(result.verdict.text["en"])
for sample in result.samples:
    print(sample)
result                  # in a notebook: with its pictures
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from paceline.lab.catalogue import NAMES
from paceline.lab.experiment import Machine, Prediction, Verdict
from paceline.lab.results import Result
from paceline.lab.samples import Samples

__all__ = ["NAMES", "Machine", "Prediction", "Result", "Samples", "Verdict", "run"]


def run(
    name: str,
    *,
    quick: bool = False,
    seed: int | None = None,
    out: str | Path | None = None,
    on_progress: Callable[[str, float, float], None] | None = None,
) -> Result:
    """Measure one experiment, and judge it; in a process of its own, so that it may be called anywhere.

    out          the folder in which the samples are kept, as `NAME.jsonl`, also those before an interrupt; without it
                 they are in the result alone
    seed         of all that is left to chance; without it another one each time, and the result has it
    on_progress  called at least each second: with the experiment, the share that is done (0 to 1), and the seconds

    Raises UsageError (no such experiment, or its results are in that folder already) or HostError (no process can be
    made, the folder cannot be written).
    """
    from paceline.lab.records import new_folder
    from paceline.lab.running import measure

    if out is not None:
        folder = new_folder(str(out), [name])
        return measure(name, folder, quick=quick, seed=seed, on_progress=on_progress)
    with tempfile.TemporaryDirectory(prefix="paceline-lab-") as passing:
        result = measure(name, Path(passing), quick=quick, seed=seed, on_progress=on_progress)
    return replace(result, path=None)
