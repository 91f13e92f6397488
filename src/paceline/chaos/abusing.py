"""Abuses by clients: as many as are asked for, for as long as is asked for.  The others must hardly notice.

Each costs what its figures say (siege.py), and nobody but the attackers a connection.
"""

import shutil
import subprocess
from typing import Any

from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.chaos.siege import EACH_S, NET, STAND_S, Siege
from paceline.clock import now
from paceline.errors import HostError

LINGER_S = 2.0
"""How long the server waits for the end of those to whom it has said its own (worker/deadlines.py)."""
SENT_BYTES = 8 << 10
"""What each of `pile` has sent, about."""


def drip(scene: Scene, step: Step) -> None:
    """Until the server ends it, at its time limit for a message."""
    _until_ended(scene, step, goal_ms=50.0)


def mute(scene: Scene, step: Step) -> None:
    """Until the server ends it, at its time limit for the first byte."""
    _until_ended(scene, step, ratio=2.0)


def _until_ended(scene: Scene, step: Step, goal_ms: float | None = None, ratio: float | None = None) -> None:
    siege, limit_s = Siege(scene, step), scene.plan.deadline_s
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        siege.wait(mob, lambda: mob.all_over, limit_s + STAND_S + LATE_S, "not all attackers were ended")
        stretch = scene.stretch()
        result = siege.end(mob)
    siege.note_others(stretch, goal_ms, ratio)
    lasted_s = result["lasted_s"]
    siege.note_ends(lasted_s, [0.0] * result["connected"], limit_s)


def unread(scene: Scene, step: Step) -> None:
    """The server ends it when nothing was taken for its time limit."""
    _not_reading(scene, step, goal_kib=64.0)


def pile(scene: Scene, step: Step) -> None:
    """Behind the large reply small messages wait that have come already: they are to cost little more than they are."""
    _not_reading(scene, step, goal_kib=64.0 + 8 * SENT_BYTES / 1024)


def _not_reading(scene: Scene, step: Step, goal_kib: float) -> None:
    siege, limit_s = Siege(scene, step), scene.plan.deadline_s
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        siege.hold(mob, limit_s / 2)
        siege.note_memory(goal_kib)
        # With no room left, a client hears of its end late or never: the server says how many it has ended.
        siege.wait(mob, siege.all_ended, limit_s + STAND_S + LATE_S, "not all were ended")
        stretch = scene.stretch()
        result = siege.end(mob)
    siege.note_others(stretch, 100.0)
    siege.note_ends(siege.ended_at_s, result["begun_s"], limit_s)


def quiet(scene: Scene, step: Step) -> None:
    """One message each, and then nothing."""
    siege = Siege(scene, step)
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        siege.hold(mob, scene.plan.hold_s)
        stretch = scene.stretch()
        siege.note_memory(0.75)
        siege.note_others(stretch, ratio=2.0)
        result = siege.end(mob)
    siege.counted("disconnected", len(result["lasted_s"]), 0)
    siege.counted("not connected", siege.count - result["connected"], 0)


def linger(scene: Scene, step: Step) -> None:
    """They are answered, are told the end, and do not go."""
    siege = Siege(scene, step, ends="closed_handler")
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        # Its kernel keeps such a connection for a minute, on its own; the server is through with it.
        siege.wait(mob, siege.all_ended, LINGER_S + STAND_S, "not all attackers were ended")
        stretch = scene.stretch()
        result = siege.end(mob)
    siege.note_others(stretch, ratio=1.2)
    siege.note_ends(siege.ended_at_s, result["begun_s"], LINGER_S)


def early(scene: Scene, step: Step) -> None:
    """The whole reply comes, although most of what they send is never read."""
    result = _until_through(scene, step)
    if len(result["lasted_s"]) != result["connected"]:
        raise BrokenPromise(f"{result['connected'] - len(result['lasted_s'])} were never ended")


def offspring(scene: Scene, step: Step) -> None:
    """A process that the handler has made keeps a copy of the socket; the client sees the end all the same."""
    siege = Siege(scene, step, blocks=True)
    with siege.attacked() as mob:
        siege.wait(mob, lambda: mob.all_over, STAND_S + siege.count * 0.5, "not all saw the end")
        stretch = scene.stretch()
        result = siege.end(mob)
    siege.note_others(stretch)
    siege.timed("until the end is seen", 1000 * max(result["lasted_s"], default=0.0), "ms", 100.0)


def churn(scene: Scene, step: Step) -> None:
    """As fast as one process can."""
    _until_through(scene, step)


def tear(scene: Scene, step: Step) -> None:
    """At random places of what they send, and of what they are sent; some of their calls block."""
    _until_through(scene, step, blocks=True)


def _until_through(scene: Scene, step: Step, *, blocks: bool = False) -> dict[str, Any]:
    siege = Siege(scene, step, blocks=blocks)
    before = scene.rig.total("connections")
    with siege.attacked() as mob:
        siege.wait(mob, lambda: mob.all_over, STAND_S + siege.count * EACH_S, "the attackers were not through")
        stretch, took_s = scene.stretch(), now() - siege.begun_s
        result = siege.end(mob)
        scene.wait_until(
            lambda: scene.rig.total("connections") <= before + scene.plan.connections // 4, LATE_S,
            "the connections of the attackers are still open",
        )  # fmt: skip
    siege.note_others(stretch)
    siege.told("connections a second", result["connected"] / took_s)
    # Who has ended in order inside a message, before the reset, is told of; seldom.
    siege.counted("lines in the log", siege.lines() - siege.lines("peer-broke"), 0)
    siege.counted("not connected", sum(result["troubles"].values()), 0)
    return result


def flood(scene: Scene, step: Step) -> None:
    """So many connections a second from one address, which may have only so many: all others are refused."""
    siege = Siege(scene, step)
    with siege.attacked() as mob:
        siege.wait(mob, lambda: mob.all_over, scene.plan.hold_s + STAND_S, "the attackers were not through")
        stretch = scene.stretch()
        result = siege.end(mob)
    siege.note_others(stretch, ratio=2.0)
    siege.told("connections a second", result["connected"] / scene.plan.hold_s)
    siege.counted("not connected", sum(result["troubles"].values()), 0)
    siege.told("of them refused", 100 * len(result["lasted_s"]) / max(1, result["connected"]), "%")


def sever(scene: Scene, step: Step) -> None:
    """Both ends learn of it at once."""
    ss = shutil.which("ss")
    if ss is None:
        raise HostError("the fault 'sever' kills connections with ss(8), which is not installed (iproute2)")
    siege = Siege(scene, step)
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        words = [ss, "-K", "-t", "state", "established", "src", f"127.{NET}.0.0/16"]
        words += ["dport", "=", f":{scene.rig.address.port}"]
        killed = subprocess.run(words, capture_output=True, text=True, check=False)
        if killed.returncode or "not permitted" in killed.stderr or "not supported" in killed.stderr:
            raise HostError(f"ss -K may not kill our own connections: {killed.stderr.strip()} (CAP_NET_ADMIN)")
        siege.wait(mob, lambda: mob.all_over, LATE_S, "not all connections were killed")
        stretch = scene.stretch()
        siege.end(mob)
    siege.note_others(stretch)
    siege.counted("lines in the log", siege.lines(), 0)
