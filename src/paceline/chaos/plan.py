"""What a run is asked to do.  Pure."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from paceline.chaos.catalogue import TABLE, Fault


@dataclass(frozen=True, slots=True)
class Plan:
    """Times in seconds.

    target        what is served; None: the application in the box
    faults        those that are injected
    lasting_s     how long the schedule goes on; None: until `count`
    count         how many faults; None: until `lasting_s`
    pause_s       between two faults, on average
    rate          messages a second, over all connections
    message       what is sent to the user's target; if `echo`, with a number behind it that makes each one different
    echo          a reply must be the message
    heartbeat_s, timeout_s, boot_s, drain_s    settings of the server
    patience_s    how long a reply may take, when nothing explains that it takes longer
    """

    seed: int
    faults: tuple[Fault, ...]
    target: str | None = None
    lasting_s: float | None = 60.0
    count: int | None = None
    pause_s: float = 0.3
    connections: int = 100
    workers: int = 2
    threads: int = 16
    """Of each worker, when the application in the box is served; else it is as the server has it."""
    rate: float = 500.0
    message: bytes = b"hello"
    framing: str = "line"
    is_framing_told: bool = True
    """The server is told it; else it is what the target itself says."""
    echo: bool = False
    max_rss_bytes: int = 160 << 20
    heartbeat_s: float = 3.0
    timeout_s: float = 2.0
    boot_s: float = 5.0
    drain_s: float = 2.0
    patience_s: float = 15.0
    attackers: int = 0
    """How many an abuse has; 0: as its row says."""
    hold_s: float = 3.0
    """How long an abuse goes on that has no end of its own."""
    deadline_s: float = 3.0
    """The time limits of the server that abuses wait for."""
    idle_s: float = 1.0
    """How long it is looked at, at rest, how busy the server is."""
    settings: tuple[str, ...] = ()
    """Further options for `paceline serve`."""
    log_path: str = ""
    """Where what the server said is kept; empty: nowhere."""
    where: str = ""
    """The current directory of the server, when the target is the user's."""

    @property
    def is_ours(self) -> bool:
        """The application in the box is served: it does as it is told, and says which process answers."""
        return self.target is None

    def most_connections(self) -> int:
        """How many may be open at the same time, all in one worker if need be."""
        return self.connections + 1000 + max((self.attackers or fault.attackers for fault in self.faults), default=0)

    def needs(self) -> dict[str, str]:
        """What the settings of abuses are made of (catalogue.py)."""
        return {"deadline": f"{self.deadline_s:g}s", "connections": str(self.connections + 200)}

    def command(self) -> str:
        """The command that repeats it."""
        words = ["paceline", "chaos"]
        if self.target is not None:
            words += [self.target, "--message", self.message.decode("utf-8", "backslashreplace")]
            words += ["--framing", self.framing, *(["--echo"] if self.echo else [])]
        words += ["--seed", str(self.seed), "--faults", ",".join(fault.name for fault in self.faults)]
        words += ["--count", str(self.count)] if self.count is not None else []
        words += ["--for", f"{self.lasting_s:g}s"] if self.lasting_s is not None else []
        if any(fault.attackers for fault in self.faults):
            words += ["--attackers", str(self.attackers)] if self.attackers else []
            words += ["--hold", f"{self.hold_s:g}s", "--deadline", f"{self.deadline_s:g}s"]
        words += ["--connections", str(self.connections), "--workers", str(self.workers)]
        return shlex.join([*words, "--rate", f"{self.rate:g}", "--pause", f"{self.pause_s:g}s"])

    def to_json(self) -> dict[str, Any]:
        """For the report, and for the load process."""
        return {
            **asdict(self),
            "faults": [fault.name for fault in self.faults],
            "message": self.message.decode("latin-1"),
            "settings": list(self.settings),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        plan = cls(**{**record, "faults": tuple(TABLE[name] for name in record["faults"])})
        return replace(plan, message=record["message"].encode("latin-1"), settings=tuple(record["settings"]))
