"""Work that does nothing but compute, and how much of something takes how long on this machine."""

from collections.abc import Callable

from paceline.clock import now

LARGEST = 1 << 24
"""No amount that is measured out is larger."""


def piece_of_work(steps: int) -> int:
    """Work that does nothing but compute, in pure Python."""
    total = 0
    for number in range(steps):
        total += number * number % 7
    return total


def amount_for(do: Callable[[int], object], seconds: float) -> int:
    """Of what takes longer the more there is, how much takes about so long here; at least 1."""
    amount = 1
    while amount < LARGEST:
        took_s = min(_took_s(do, amount) for _ in range(3))  # the first may have had to make something
        if took_s >= seconds / 5:
            return max(1, int(amount * seconds / took_s))
        amount *= 2
    return amount


def _took_s(do: Callable[[int], object], amount: int) -> float:
    begun_s = now()
    do(amount)
    return now() - begun_s
