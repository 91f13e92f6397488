"""How many workers and seats there are.  Pure."""

from dataclasses import dataclass

from paceline.settings import Settings

MOST_WORKERS = 1024
"""As the settings' table has it, for what was left to us."""


@dataclass(frozen=True, slots=True)
class Size:
    """The numbers of one server."""

    workers: int
    seats: int
    cores: int
    why_cores: str
    """Why it is not more cores: `the machine has 2`."""

    @property
    def most_workers(self) -> int:
        """How many there may ever be."""
        return max(self.workers, (self.seats - 2) // 2)

    @property
    def exceeds_cores(self) -> bool:
        return self.workers > self.cores


def size_of(settings: Settings, cores: int, why_cores: str) -> Size:
    """The numbers for these settings on so many usable cores.

    Twice as many seats as there may ever be workers, so that each may have its replacement beside it, and two for a
    reload's canary and a straggler.  That there are no more workers than there may be, the settings have seen to.
    """
    workers = settings.workers or min(cores, settings.max_workers or MOST_WORKERS)
    most = settings.max_workers or min(MOST_WORKERS, max(8, 4 * workers))
    return Size(workers, 2 * most + 2, cores, why_cores)


def why_no_room(settings: Settings, size: Size, threads: int) -> str:
    """Why a server of this size, with room for so many threads in each worker, cannot go over to these settings by a
    reload; nothing if it can."""
    if settings.threads > threads:
        return (
            f"threads = {settings.threads}: there is room for {threads} in each worker, as many as the server was "
            f"started with; a reload can have that many or fewer, a restart more"
        )
    if settings.workers is not None and settings.workers > size.most_workers:
        return (
            f"workers = {settings.workers}: there is room for {size.most_workers} (--max-workers); a reload can have "
            f"that many or fewer, a restart more"
        )
    return ""
