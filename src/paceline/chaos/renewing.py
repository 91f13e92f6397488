"""Faults that are no faults: new code, more workers, another server in the same process.  Nobody may notice."""

import signal
from functools import partial

from paceline.chaos import target
from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now

HUPS = 1_000
STORM_S = 1.0


def _generation(scene: Scene) -> int:
    return max((post.generation for post in scene.rig.posts()), default=0)


def _new_code(scene: Scene) -> int:
    scene.rig.version += 1
    if scene.plan.is_ours:
        scene.rig.write(target.good(scene.rig.version))
    return scene.rig.version


def _wait_new(scene: Scene, before: int, version: int) -> None:
    """Until only workers of a newer generation are there, all of them, in this version."""

    def is_new() -> bool:
        posts = scene.rig.posts()
        return len(posts) == scene.workers and all(post.serves and post.generation > before for post in posts)

    try:
        scene.wait_until(is_new, _renewed_within_s(scene), "the reload was not done")
    except BrokenPromise as broken:
        said = _last_word(scene, "reload-failed", "reload-refused")
        raise BrokenPromise(f"{broken}; the server says: {said}") from None
    if scene.plan.is_ours:
        with scene.callers(1) as (caller,):
            _, served = caller.who()
        if served != version:
            raise BrokenPromise(f"after the reload version {served} is served, and {version} is in the file")


def reload(scene: Scene, step: Step) -> float:
    scene.wait_full()
    before, version = _generation(scene), _new_code(scene)
    begun_s = now()
    with scene.wounding(step):
        scene.rig.signal(signal.SIGHUP)
        _wait_new(scene, before, version)
    return now() - begun_s


def broken(scene: Scene, step: Step) -> float:
    """The old workers stay, and whoever looks at the log is told why."""
    scene.wait_still()
    rig = scene.rig
    how = list(target.BROKEN)[step.number % len(target.BROKEN)]  # all in turn
    before, mark = [post.pid for post in rig.serving()], rig.log.mark
    rig.write(target.BROKEN[how])
    begun_s = now()
    try:
        with scene.wounding(step):
            rig.signal(signal.SIGHUP)
            within_s = scene.plan.boot_s + LATE_S
            is_refused = partial(rig.log.since, mark, "reload-failed")
            scene.wait_until(is_refused, within_s, f"broken code ({how}) was not refused")
            took_s = now() - begun_s
            scene.wait_still()
    finally:
        rig.write(target.good(rig.version))
    if (after := [post.pid for post in rig.serving()]) != before:
        raise BrokenPromise(f"a reload of broken code ({how}) replaced workers {before} by {after}")
    return took_s


def storm(scene: Scene, step: Step) -> float:
    """It comes to rest, in the newest code, with never more than two generations."""
    scene.wait_full()
    before = _generation(scene)
    version = scene.rig.version
    scene.most_generations = 0
    begun_s = now()
    with scene.wounding(step):
        for number in range(HUPS):
            if number % (HUPS // 4) == 0:
                version = _new_code(scene)
            scene.rig.signal(signal.SIGHUP)
            if number % 10 == 9:
                scene.pause(max(0.0, begun_s + STORM_S * number / HUPS - now()))
        _wait_last(scene, before, version)
    if scene.most_generations > 2:
        raise BrokenPromise(f"{scene.most_generations} generations were there at the same time, and two are allowed")
    return now() - begun_s - STORM_S


def _wait_last(scene: Scene, before: int, version: int) -> None:
    """The last reload is done, too: of those that were asked for meanwhile, one waited for its turn."""
    served = 0

    def is_served() -> bool:
        nonlocal served
        posts, said = scene.rig.posts(), scene.rig.log.counts
        is_reloading = said["reloading"] > said["reloaded"] + said["reload-failed"]
        if is_reloading or not len(posts) == scene.workers == sum(post.generation > before for post in posts):
            return False
        if not scene.plan.is_ours:
            return True
        with scene.callers(1) as (caller,):
            served = caller.who()[1]
        return served == version

    try:
        scene.wait_until(is_served, _renewed_within_s(scene), "it did not come to rest")
    except BrokenPromise as broken:
        raise BrokenPromise(f"{broken}; version {served} is served, and {version} is in the file") from None


def recycle(scene: Scene, step: Step) -> float:
    """One at a time, each after another has started in its place: there are never fewer than there should be."""
    scene.wait_still()
    chance, rig = step.chance(), scene.rig
    wanted = chance.choice([1, scene.workers])
    grown: set[int] = set()
    with scene.callers(4 * scene.workers) as callers, scene.wounding(step):
        begun_s = now()
        for caller in callers:
            pid, _ = caller.who()
            if pid not in grown and len(grown) < wanted:
                grown.add(pid)
                caller.ask(b"!grow %d" % scene.plan.max_rss_bytes)
        fewest = scene.workers

        def are_gone() -> bool:
            nonlocal fewest
            fewest = min(fewest, len(rig.serving()))
            return not any(post.pid in grown for post in rig.posts())

        scene.wait_until(are_gone, _renewed_within_s(scene), f"workers {sorted(grown)} were not recycled")
        scene.wait_still()
        took_s = now() - begun_s
    if fewest < scene.workers:
        raise BrokenPromise(f"only {fewest} of {scene.workers} workers served while others were recycled")
    return took_s


def scale(scene: Scene, step: Step) -> float:
    scene.wait_full()
    least, most = 1, scene.plan.workers + 2
    more = scene.workers == least or (scene.workers < most and step.chance().random() < 0.5)
    begun_s = now()
    with scene.wounding(step):
        scene.workers += 1 if more else -1
        scene.rig.signal(signal.SIGTTIN if more else signal.SIGTTOU)
        scene.wait_still(scene.plan.boot_s + scene.plan.drain_s + LATE_S)
    return now() - begun_s


def upgrade(scene: Scene, step: Step) -> float:
    """The same process, the same listeners; half of them to broken code, which changes nothing."""
    scene.wait_still()
    if scene.plan.is_ours and step.chance().random() < 0.5:
        return _upgrade_to_broken_code(scene, step)
    rig, before, version = scene.rig, {post.pid for post in scene.rig.serving()}, _new_code(scene)
    begun_s = now()
    with scene.wounding(step):
        rig.signal(signal.SIGUSR2)

        def is_new() -> bool:
            if rig.has_ended():
                raise BrokenPromise(f"the server ended with {rig.exit_code} when it was upgraded")
            rig.look_anew()
            posts = rig.posts()
            return len(posts) == scene.workers and all(post.serves and post.pid not in before for post in posts)

        try:
            scene.wait_until(is_new, _renewed_within_s(scene), "the upgrade was not done")
        except BrokenPromise as broken:
            raise BrokenPromise(f"{broken}; the server says: {_last_word(scene, 'upgrade-failed')}") from None
    if scene.plan.is_ours:
        with scene.callers(1) as (caller,):
            if caller.who()[1] != version:
                raise BrokenPromise(f"after the upgrade version {version} is in the file, and is not served")
    return now() - begun_s


def _upgrade_to_broken_code(scene: Scene, step: Step) -> float:
    """Refused before anything is given up, or an ordinary reload that fails afterwards."""
    rig, before, mark = scene.rig, {post.pid for post in scene.rig.serving()}, scene.rig.log.mark
    how = step.chance().choice(["syntax", "import", "exit", "probe"])
    rig.write(target.BROKEN[how])
    begun_s = now()
    try:
        with scene.wounding(step):
            rig.signal(signal.SIGUSR2)

            def is_refused() -> bool:
                rig.look_anew()
                return bool(rig.log.since(mark, "upgrade-failed", "reload-failed"))

            scene.wait_until(is_refused, _renewed_within_s(scene), f"an upgrade to broken code ({how}) was not refused")
            took_s = now() - begun_s
            scene.wait_still()
    finally:
        rig.write(target.good(rig.version))
    if (after := {post.pid for post in rig.serving()}) != before:
        raise BrokenPromise(f"an upgrade to broken code ({how}) replaced workers {before} by {after}")
    return took_s


def _renewed_within_s(scene: Scene) -> float:
    return 2 * scene.plan.boot_s + scene.plan.drain_s + LATE_S


def _last_word(scene: Scene, *events: str) -> str:
    said = [str(record["text"]) for record in scene.rig.log.since(0, *events)[-1:]]
    return said[0] if said else "nothing"
