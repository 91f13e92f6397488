"""How each fault of the catalogue is done: its name, and the function that does it.

A driver is called with the scene and its step, waits until the server has got over it, and gives how long that took in
seconds, or None where that means nothing.  It raises BrokenPromise when something is not as it must be.
"""

from collections.abc import Callable, Mapping

from paceline.chaos import abusing, barren, disturbing, ending, killing, peers, renewing, starving, stopping
from paceline.chaos.scene import Scene
from paceline.chaos.schedule import Step

Driver = Callable[[Scene, Step], float | None]

DRIVERS: Mapping[str, Driver] = {
    "kill": killing.kill,
    "segv": killing.segv,
    "abort": killing.abort,
    "massacre": killing.massacre,
    "term": killing.term,
    "recycle": renewing.recycle,
    "fork": barren.fork,
    "stop": stopping.stop,
    "pause": stopping.pause,
    "hang": stopping.hang,
    "saturate": stopping.saturate,
    "gil": stopping.gil,
    "signals": stopping.signals,
    "memory": starving.memory,
    "descriptors": starving.descriptors,
    "reload": renewing.reload,
    "broken": renewing.broken,
    "storm": renewing.storm,
    "scale": renewing.scale,
    "upgrade": renewing.upgrade,
    "reset": peers.reset,
    "half": peers.half,
    "slow": peers.slow,
    "exhausted": disturbing.exhausted,
    "drip": abusing.drip,
    "mute": abusing.mute,
    "unread": abusing.unread,
    "pile": abusing.pile,
    "quiet": abusing.quiet,
    "linger": abusing.linger,
    "early": abusing.early,
    "offspring": abusing.offspring,
    "churn": abusing.churn,
    "tear": abusing.tear,
    "flood": abusing.flood,
    "sever": abusing.sever,
    "errors": disturbing.errors,
    "supervisor": ending.supervisor,
    "drain": ending.drain,
    "twice": ending.twice,
}
