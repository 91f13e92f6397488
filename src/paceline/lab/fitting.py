"""How many threads fit: what the system allows, and what they take of memory while more and more of them wait."""

from paceline.lab.memory import touched_and_reserved

STEPS = 10
"""So often memory is looked at on the way."""


def make_as_many(most: int) -> tuple[list[tuple[int, int, int]], int, str]:
    """Make threads that wait: (how many, VmRSS, VmSize) at each step; how many were made, and why no more."""
    import threading

    gate = threading.Event()
    crew: list[threading.Thread] = []
    steps: list[tuple[int, int, int]] = []
    why = ""
    try:
        while len(crew) < most:
            thread = threading.Thread(target=gate.wait, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the kernel refused
                why = str(error)
                break
            crew.append(thread)
            if len(crew) % (most // STEPS) == 0:
                steps.append((len(crew), *touched_and_reserved()))
    finally:
        gate.set()
        for thread in crew:
            thread.join()
    return steps, len(crew), why


def limits() -> dict[str, int]:
    """How many threads this system, this user and this control group may have, by the names of the limits."""
    import resource

    from paceline.host.cgroups import folders, read_own, read_text

    found: dict[str, int] = {}
    for name, maps in (("kernel/threads-max", 1), ("kernel/pid_max", 1), ("vm/max_map_count", 2)):
        text = read_text(f"/proc/sys/{name}")
        if text and text.strip().isdecimal():
            found[name.replace("/", ".")] = int(text) // maps  # a thread takes two maps: a stack, and a guard below it
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY:
        found["RLIMIT_NPROC"] = soft
    for _, folder in folders("pids", *read_own()):
        text = (read_text(f"{folder}/pids.max") or "").strip()
        if text.isdecimal():
            found["pids.max"] = min(int(text), found.get("pids.max", int(text)))
    return found
