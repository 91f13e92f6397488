"""Which experiments there are, in the order in which the lesson goes through them."""

from importlib import import_module

from paceline.errors import UsageError
from paceline.lab.experiment import Experiment
from paceline.settings.values import near

NAMES = (
    "turns", "parallel", "processes", "threads", "creation", "switching", "gil", "blocking",
    "crash", "servers", "sizing", "admission",
)  # fmt: skip


def experiment_of(name: str) -> Experiment:
    """Raises UsageError when there is no such experiment."""
    if name not in NAMES:
        nearest = near(name, NAMES)
        hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(NAMES)}"
        raise UsageError(f"the lab has no experiment {name!r}; {hint}")
    found = import_module(f"paceline.lab.experiments.{name}").EXPERIMENT
    assert isinstance(found, Experiment)
    return found
