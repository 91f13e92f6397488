"""Which experiments there are, in the order in which the lesson goes through them."""

from importlib import import_module

from paceline.errors import UsageError
from paceline.lab.experiment import Experiment

NAMES = (
    "turns", "parallel", "processes", "threads", "creation", "switching", "gil", "blocking", "crash", "servers",
    "sizing", "admission",
)  # fmt: skip


def experiment_of(name: str) -> Experiment:
    """Raises UsageError when there is no such experiment."""
    if name not in NAMES:
        raise UsageError(f"the lab has no experiment {name!r}; there are {', '.join(NAMES)}")
    found = import_module(f"paceline.lab.experiments.{name}").EXPERIMENT
    assert isinstance(found, Experiment)
    return found
