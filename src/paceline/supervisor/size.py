"""How many workers and seats there are.  Pure."""

from dataclasses import dataclass

from paceline.errors import SettingError
from paceline.settings import Settings


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of one server."""

    workers: int
    seats: int
    cores: int
    why_cores: str
    """Why it is not more cores: `the machine has 2`."""

    @property
    def exceeds_cores(self) -> bool:
        return self.workers > self.cores


def size_of(settings: Settings, cores: int, why_cores: str) -> Size:
    """The numbers for these settings on so many usable cores.

    Twice as many seats as there may ever be workers, so that each may have its replacement beside it, and two for a
    reload's canary and a straggler.  Raises SettingError when more workers are asked for than there may be.
    """
    most = settings.max_workers
    workers = settings.workers or (cores if most is None else min(cores, most))
    if most is None:
        most = max(8, 4 * workers)
    if workers > most:
        raise SettingError(
            f"--workers {workers} is more than --max-workers {most}; "
            f"raise --max-workers to at least {workers}, or leave it out"
        )
    return Size(workers, 2 * most + 2, cores, why_cores)
