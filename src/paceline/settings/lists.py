"""What the kinds of values have in common that are lists of texts.  Pure."""

from dataclasses import dataclass
from typing import Any, ClassVar

from paceline.settings.values import Kind, WrongValueError, quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Kind):
    """One or several, in one text separated by commas.  The word stands for no list at all; an empty one is refused."""

    is_list: ClassVar[bool] = True

    def shown(self, value: Any) -> str:
        return ",".join(value)

    def toml(self, value: Any) -> str:
        if value is None:
            return quoted(self.word)
        return "[" + ", ".join(quoted(text) for text in value) + "]"

    def texts_of(self, raw: object) -> list[str] | None:
        """The texts that were given, each not yet split; None: the word.  Raises WrongValueError."""
        parts = [raw] if isinstance(raw, str) else raw
        if not isinstance(parts, list | tuple) or not parts:
            raise WrongValueError(f"{self.rule}; or a list of them that is not empty", self.word)
        for part in parts:
            if not isinstance(part, str):
                raise WrongValueError(self.rule, value=part)
        if self.word and len(parts) == 1 and parts[0].strip().casefold() == self.word:
            return None
        return list(parts)

    def refuse_word(self, text: str) -> None:
        """Of the word and something else one is a mistake, and nobody can know which.  Raises WrongValueError."""
        if self.word and text.casefold() == self.word:
            raise WrongValueError(self.rule, value=text, remedy=f"{self.word} stands alone")
