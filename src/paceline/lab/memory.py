"""How much memory a process has, as the kernel says it (proc_pid_smaps(5), proc_pid_status(5))."""


def memory_of(pid: int) -> dict[str, int]:
    """PSS, RSS and what belongs to it alone, in bytes; nothing where the kernel does not tell."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return parsed(file.read())
    except OSError:
        return {}


def parsed(rollup: str) -> dict[str, int]:
    """What such a file says, in bytes."""
    kib = {}
    for line in rollup.splitlines()[1:]:
        name, _, rest = line.partition(":")
        if rest.split()[1:] == ["kB"]:
            kib[name] = int(rest.split()[0])
    if "Pss" not in kib:
        return {}
    own = kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)
    return {"pss_bytes": kib["Pss"] << 10, "rss_bytes": kib.get("Rss", 0) << 10, "own_bytes": own << 10}


def touched_and_reserved() -> tuple[int, int]:
    """What of this process lies in memory, and what it has reserved, as the kernel says."""
    with open("/proc/self/status") as file:
        said = dict(line.split(":", 1) for line in file)
    rss, size = (int(said[name].split()[0]) * 1024 for name in ("VmRSS", "VmSize"))
    return rss, size
