"""What people read, in each language of the lab.  Pure."""

from dataclasses import dataclass

LANGUAGES = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Text:
    """The same in English and in Chinese; `text["zh"]`."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        return self.zh if language == "zh" else self.en

    def filled(self, **values: object) -> "Text":
        """With `{name}` filled in, as by str.format."""
        return Text(self.en.format(**values), self.zh.format(**values))


def same(text: str) -> Text:
    """A name or a number, which both languages write alike."""
    return Text(text, text)


def telling(value: float, bound: float, digits: int) -> str:
    """With so many digits behind the point, or as many more as show on which side of the bound it is (at most 6)."""
    said = f"{value:,.{digits}f}"
    while digits < 6 and (float(said.replace(",", "")) >= bound) != (value >= bound):
        digits += 1
        said = f"{value:,.{digits}f}"
    return said


def joined(*texts: Text) -> Text:
    """One after the other: with a space between them in English, without one in Chinese."""
    return Text(" ".join(text.en for text in texts if text.en), "".join(text.zh for text in texts))
