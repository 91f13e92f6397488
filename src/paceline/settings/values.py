"""How the value of a setting is written, checked and shown.  Pure.

A kind reads what somebody wrote, a text (command line, environment) or an already typed value (TOML, Python), and
returns the value, or raises WrongValueError with the rule and the nearest right value; it does not know the setting's
name.  What a kind shows, it reads back as the same value.

    Whole      64
    Size       4096, 64k, 1.5MiB: k, m, g stand for powers of 1024, with or without "iB" or "B" behind them
    Seconds    30, 30s, 500ms, 2m, 1h, 1d, 20us
    CallLimit  the same, or auto
    Fraction   0.1
    Choice     one of a few words
    Text       anything but nothing
    Addresses  127.0.0.1:8888, or several
    Frequency  100, 100/s, 30/min

A kind with a `word` also takes that word (`auto`, `off`), for None or whatever else `means` says.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Literal

from paceline.addresses import FORMS, Address, NotAnAddressError, parse_address

_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*([A-Za-zµμ/]*)\s*")
_DIGITS = 18
"""More digits than this are over every limit; int() itself refuses, by another error, to read thousands of them."""


AUTO: Literal["auto"] = "auto"


class WrongValueError(Exception):
    """A value that cannot be: the rule, the nearest right value if there is one, and the part that is wrong.

    `remedy` is said where no other value is the answer.
    """

    def __init__(self, rule: str, nearest: str = "", value: object = None, *, remedy: str = "") -> None:
        super().__init__(rule, nearest, value, remedy)
        self.rule = rule
        self.nearest = nearest
        self.value = value
        self.remedy = remedy


def near(word: str, names: Iterable[str]) -> str:
    """The name most like `word`, or nothing."""
    by_folded = {name.casefold(): name for name in names}
    found = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""


def quoted(text: str) -> str:
    """A TOML basic string (TOML v1.0.0, "String").  Raises WrongValueError for what no TOML file can hold."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise WrongValueError("is not Unicode text, which is all that TOML can hold")
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04X}" if ord(c) < 32 or ord(c) == 127 else c for c in text) + '"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The root: what all kinds can do."""

    metavar: str = "TEXT"
    word: str = ""
    means: object = None
    unit: ClassVar[str] = ""
    is_list: ClassVar[bool] = False
    """It may be given several times."""

    @property
    def rule(self) -> str:
        """What a value must be, to stand behind "must be"."""
        return ", or ".join((self.body, *self.words))

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it takes besides what it is made for."""
        return (self.word,) if self.word else ()

    @property
    def body(self) -> str:
        """The rule without the word."""
        raise NotImplementedError

    @property
    def allowed(self) -> str:
        """The rule for a narrow column of a manual; nothing where every text is allowed."""
        return ""

    def read(self, raw: object) -> Any:
        """The value of what somebody wrote.  Raises WrongValueError."""
        if self.word and (raw is None or (isinstance(raw, str) and raw.strip().casefold() == self.word)):
            return self.means
        return self.body_of(raw)

    def body_of(self, raw: object) -> Any:
        """The value of what is not the word.  Raises WrongValueError."""
        raise NotImplementedError

    def show(self, value: Any) -> str:
        """The value as a person would write it."""
        return self.word if self.word and value == self.means else self.shown(value)

    def shown(self, value: Any) -> str:
        """The value of what is not the word, as a person would write it."""
        return str(value)

    def toml(self, value: Any) -> str:
        """The value as TOML."""
        text = self.show(value)
        return text if type(value) is int and re.fullmatch("-?[0-9]+", text) else quoted(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number(Kind):
    """What the kinds that measure or count have in common: a range, and units."""

    low: float
    high: float
    units: ClassVar[dict[str, tuple[int, int]]] = {"": (1, 1)}
    """By folded name: multiply by the first, divide by the second (n / 1000 is correctly rounded, n * 0.001 is not)."""

    @property
    def allowed(self) -> str:
        return f"{self._counted(self.low)} to {self._counted(self.high)}"

    def _counted(self, value: float) -> str:
        text = self.shown(value)
        return f"{int(text):,}" if text.isdecimal() else text

    def body_of(self, raw: object) -> Any:
        amount, unit = self._split(raw)
        if unit not in self.units:
            guess = near(unit, self.units) or next((name for name in self.units if name[:1] == unit[0]), "")
            raise WrongValueError(self.rule, self._clamped(self._scaled(amount, guess)) if guess else "")
        value = self._scaled(amount, unit)
        if self.word and value == self.means:
            return self.means
        if not self.low <= value <= self.high or not self._is_exact(value):
            raise WrongValueError(self.rule, self._clamped(value))
        return self._typed(value)

    def _split(self, raw: object) -> tuple[float, str]:
        """The number that stands in what was written, and the folded unit behind it."""
        if isinstance(raw, int | float) and not isinstance(raw, bool) and raw == raw:  # nan is not
            return raw, ""
        found = _NUMBER.fullmatch(raw) if isinstance(raw, str) else None
        if found is None:
            raise WrongValueError(self.rule, near(raw, self.words) if isinstance(raw, str) else "")
        digits, unit = found.groups()
        is_short = digits.lstrip("+-").isdecimal() and len(digits) <= _DIGITS
        return int(digits) if is_short else float(digits), unit.casefold()

    def _scaled(self, amount: float, unit: str) -> float:
        times, over = self.units[unit]
        return amount * times if over == 1 else amount / over

    def _clamped(self, value: float) -> str:
        if value <= 0 < self.low and self.word == "off":
            return self.word  # other programs write 0 for it
        return self.show(self._typed(min(max(value, self.low), self.high)))

    def _is_exact(self, value: float) -> bool:  # noqa: ARG002 - for subclasses
        return True

    def _typed(self, value: float) -> Any:
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Number):
    """A count."""

    metavar: str = "N"

    @property
    def body(self) -> str:
        return f"a whole number from {self.allowed}"

    def _is_exact(self, value: float) -> bool:
        return value == int(value)

    def _typed(self, value: float) -> int:
        return round(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size(Number):
    """Bytes."""

    metavar: str = "SIZE"
    unit: ClassVar[str] = "bytes"
    units: ClassVar[dict[str, tuple[int, int]]] = {"": (1, 1), "b": (1, 1)} | {
        letter + tail: (1024**power, 1) for power, letter in enumerate("kmg", 1) for tail in ("", "b", "ib")
    }

    @property
    def body(self) -> str:
        return f"a size from {self.allowed}, in bytes or like 64KiB"

    def shown(self, value: float) -> str:
        for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
            if value and value % 1024**power == 0:
                return f"{int(value) // 1024**power}{name}"
        return f"{int(value)}B"

    def _typed(self, value: float) -> int:
        return round(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Size):
    """Bytes per second."""

    metavar: str = "RATE"
    unit: ClassVar[str] = "bytes per second"
    units: ClassVar[dict[str, tuple[int, int]]] = Size.units | {f"{name}/s": by for name, by in Size.units.items()}

    @property
    def body(self) -> str:
        return f"a rate from {self.allowed}, in bytes per second or like 4KiB/s"

    def shown(self, value: float) -> str:
        return f"{Size.shown(self, value)}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds(Number):
    """A time."""

    metavar: str = "TIME"
    unit: ClassVar[str] = "seconds"
    units: ClassVar[dict[str, tuple[int, int]]] = {
        "": (1, 1), "s": (1, 1), "sec": (1, 1), "ms": (1, 1000), "us": (1, 1_000_000), "μs": (1, 1_000_000),
        "m": (60, 1), "min": (60, 1), "h": (3600, 1), "d": (86400, 1),
    }  # fmt: skip

    @property
    def body(self) -> str:
        return f"a time from {self.allowed}, in seconds or like 500ms or 2m"

    def shown(self, value: float) -> str:
        for unit in ("d", "h") if value >= 3600 else ("s", "ms", "us"):
            times, over = self.units[unit]
            text = f"{value * over / times:.15g}"
            if text.isdecimal() and self._scaled(int(text), unit) == value and (value >= 1 or unit != "s" or not value):
                return text + unit
        return f"{value:g}s" if float(f"{value:g}") == value else f"{value!r}s"

    def _typed(self, value: float) -> float:
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequency(Number):
    """So many a second."""

    metavar: str = "N/s"
    unit: ClassVar[str] = "per second"
    units: ClassVar[dict[str, tuple[int, int]]] = {"": (1, 1), "/s": (1, 1), "/min": (1, 60), "/m": (1, 60)}

    @property
    def body(self) -> str:
        return f"a number per second from {self.allowed}, or like 30/min"

    def shown(self, value: float) -> str:
        text = f"{value:.15g}"
        return f"{text if float(text) == value else repr(value)}/s"

    def _typed(self, value: float) -> float:
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimit(Seconds):
    """A time for which two words stand: `off` for no limit, which is None, and `auto`, which is itself."""

    metavar: str = "TIME|auto|off"

    @property
    def words(self) -> tuple[str, ...]:
        return (AUTO, self.word)

    def body_of(self, raw: object) -> float | Literal["auto"]:
        if isinstance(raw, str) and raw.strip().casefold() == AUTO:
            return AUTO
        return Seconds.body_of(self, raw)  # type: ignore[no-any-return]

    def shown(self, value: float | Literal["auto"]) -> str:
        return AUTO if value == AUTO else Seconds.shown(self, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction(Number):
    """A part of a whole."""

    low: float = 0.0
    high: float = 1.0
    metavar: str = "FRACTION"
    units: ClassVar[dict[str, tuple[int, int]]] = {"": (1, 1)}

    @property
    def body(self) -> str:
        return f"a number from {self.allowed}"

    def shown(self, value: float) -> str:
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)

    def _typed(self, value: float) -> float:
        return float(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Kind):
    """One of a few words."""

    choices: tuple[str, ...]

    @property
    def body(self) -> str:
        return self.allowed

    @property
    def allowed(self) -> str:
        *before, last = self.choices
        return f"{', '.join(before)} or {last}"

    def body_of(self, raw: object) -> str:
        folded = raw.strip().casefold() if isinstance(raw, str) else ""
        if folded not in self.choices:
            raise WrongValueError(self.rule, near(folded, (*self.choices, *self.words)))
        return folded


def text_of_path(raw: object) -> object:
    """The text of a path (os.PathLike); all else as it is."""
    path = getattr(raw, "__fspath__", None)
    return raw if path is None else path()


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(Kind):
    """A text or a path; what it names is looked at by whoever uses it."""

    @property
    def body(self) -> str:
        return "a text that is not empty and holds no NUL"

    def body_of(self, raw: object) -> str:
        text = text_of_path(raw)
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise WrongValueError(self.rule)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses(Kind):
    """One address or several; in one text they are separated by commas."""

    metavar: str = "ADDRESS"
    is_list: ClassVar[bool] = True

    @property
    def body(self) -> str:
        return "one address or several"

    def body_of(self, raw: object) -> tuple[str, ...]:
        parts = [part.strip() for part in raw.split(",")] if isinstance(raw, str) else raw
        parts = [parts] if type(parts) is int else parts
        if not isinstance(parts, list | tuple) or not parts:
            raise WrongValueError(f"an address ({FORMS}), or a list of addresses that is not empty")
        found: list[Address] = []
        for part in parts:
            if not isinstance(part, str) and type(part) is not int:
                raise WrongValueError(f"an address ({FORMS}), or a list of addresses", value=part)
            try:
                address = parse_address(str(part))  # a bare number is never one, and the error says what was meant
            except NotAnAddressError as wrong:
                raise WrongValueError(wrong.rule, wrong.nearest, part) from None
            if address in found and not (address.kind == "tcp" and address.port == 0):
                raise WrongValueError("given only once", value=part, remedy="leave one of the two out")
            found.append(address)
        return tuple(address.text for address in found)

    def shown(self, value: Any) -> str:
        return ",".join(value)

    def toml(self, value: Any) -> str:
        return "[" + ", ".join(quoted(text) for text in value) + "]"
