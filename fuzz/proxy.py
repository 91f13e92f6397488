"""The header of a proxy: whatever comes is one, or none, or more is to come; what was said once stays so."""

from fuzzing import run

from paceline.wire.proxy import LONGEST, Header, NoHeader, parse


def found(data: bytes) -> object:
    try:
        return parse(data)
    except NoHeader:
        return NoHeader


def check(data: bytes) -> None:
    whole = found(data)
    sizes = [*range(1, min(17, len(data))), *range(17, len(data), 29)]
    if isinstance(whole, Header):
        assert whole.length <= min(len(data), LONGEST)
        sizes += [whole.length - 1, whole.length]
    for size in sizes:
        if isinstance(whole, Header):
            assert found(data[:size]) == (None if size < whole.length else whole)
        else:
            assert found(data[:size]) in (None, whole), "it was said already, and otherwise"


if __name__ == "__main__":
    run("proxy", check)
