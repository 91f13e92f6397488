"""The kind of value that is a list of networks, from which somebody may or may not connect.  Pure."""

from dataclasses import dataclass
from typing import Any, ClassVar

from paceline.networks import FORMS, NotANetworkError, parse_network
from paceline.settings.values import Kind, WrongValueError, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks(Kind):
    """`10.0.0.0/8,2001:db8::/32`: in one text they are separated by commas.  The word stands for no list at all.

    A list in which nothing stands is refused: of the networks that may connect it would mean nobody to one reader and
    everybody to another.
    """

    metavar: str = "NETWORK"
    is_list: ClassVar[bool] = True

    @property
    def body(self) -> str:
        return FORMS

    def body_of(self, raw: object) -> tuple[str, ...] | None:
        parts = [raw] if isinstance(raw, str) else raw
        if not isinstance(parts, list | tuple) or not parts:
            raise WrongValueError(f"{self.rule}; or a list of networks that is not empty", self.word)
        found: dict[str, None] = {}
        for part in parts:
            if not isinstance(part, str):
                raise WrongValueError(self.rule, value=part)
            if self.word and len(parts) == 1 and part.strip().casefold() == self.word:
                return None
            for text in part.split(","):
                try:
                    found[parse_network(text).text] = None
                except NotANetworkError as wrong:
                    raise WrongValueError(wrong.rule, wrong.nearest, text.strip() or part) from None
        return tuple(found)

    def shown(self, value: Any) -> str:
        return ",".join(value)

    def toml(self, value: Any) -> str:
        if value is None:
            return quoted(self.word)
        return "[" + ", ".join(quoted(text) for text in value) + "]"
