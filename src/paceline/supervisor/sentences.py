"""What the supervisor says about its workers, in words.  Pure."""


def span_text(seconds: float) -> str:
    """`14 ms`, `0.4 s`, `17 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`: the two largest units."""
    if 0 < seconds < 0.095:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 10:
        return f"{round(max(0.0, seconds), 1):g} s"
    whole = round(seconds)
    for unit, size, next_unit, next_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {unit}" + (f" {rest} {next_unit}" if rest else "")
    return f"{whole} s"


def crew_text(workers: int, threads: int) -> str:
    """`2 workers × up to 64 threads`."""
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    return f"{crew} × {'1 thread' if threads == 1 else f'up to {threads} threads'}"


def size_text(size_bytes: int) -> str:
    """`512 B`, `64 KiB`, `31.5 MiB`, `2.0 GiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    amount, unit = size_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1023.95:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "KiB" else f"{amount:.1f} {unit}"
