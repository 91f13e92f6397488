"""The kind of value that is a list of networks, from which somebody may or may not connect.  Pure."""

from dataclasses import dataclass

from paceline.networks import FORMS, NotANetworkError, parse_network
from paceline.settings.lists import Listed
from paceline.settings.values import WrongValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks(Listed):
    """`10.0.0.0/8,2001:db8::/32`.

    A list in which nothing stands is refused: of the networks that may connect it would mean nobody to one reader and
    everybody to another.
    """

    metavar: str = "NETWORK"

    @property
    def body(self) -> str:
        return FORMS

    def body_of(self, raw: object) -> tuple[str, ...] | None:
        texts = self.texts_of(raw)
        if texts is None:
            return None
        found: dict[str, None] = {}
        for part in texts:
            for text in part.split(","):
                try:
                    found[parse_network(text).text] = None
                except NotANetworkError as wrong:
                    raise WrongValueError(wrong.rule, wrong.nearest, text.strip() or part) from None
        return tuple(found)
