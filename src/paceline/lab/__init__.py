"""The lab: what processes, threads and the GIL do, measured on this machine.

run("gil")              measure one experiment and judge it; `quick=True` with few repetitions
NAMES                   the experiments, in the order of the lesson

import paceline.lab

result = paceline.lab.run("gil", quick=True)
print(result.verdict.text["en"])
for sample in result.samples:
    print(sample)
"""

import tempfile
from pathlib import Path

from paceline.lab.catalogue import NAMES
from paceline.lab.records import new_folder
from paceline.lab.running import Progress, Result, measure

__all__ = ["NAMES", "Result", "run"]


def run(
    name: str,
    *,
    quick: bool = False,
    seed: int | None = None,
    out: str | Path | None = None,
    on_progress: Progress | None = None,
) -> Result:
    """Measure one experiment, and judge it; in a process of its own, so that it may be called anywhere.

    out          the folder in which the samples are kept, as `NAME.jsonl`; without it they are in the result alone
    seed         of all that is left to chance; without it another one each time, and the result has it
    on_progress  called with the experiment, the share that is done (0 to 1; -1 when it is not known) and the seconds

    Raises UsageError (no such experiment) or HostError (no process can be made, the folder cannot be written).
    """
    if out is not None:
        return measure(name, new_folder(str(out)), quick=quick, seed=seed, on_progress=on_progress)
    with tempfile.TemporaryDirectory(prefix="paceline-lab-") as folder:
        return measure(name, Path(folder), quick=quick, seed=seed, on_progress=on_progress)
