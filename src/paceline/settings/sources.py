"""Where settings come from, and which of them counts.  Pure.

`lay` puts sources over each other, the first on top: command line > environment > file > default.  Every value of every
source is checked, also one that is overridden.  A source knows how a setting is written there, so that an error names
it as the user wrote it: `--threads 0`, `PACELINE_THREADS=0`, `threads = 0 in paceline.toml`, `threads=0`.

Reading files and os.environ is the business of cli/.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paceline.errors import SettingError
from paceline.settings.secrecy import oddity
from paceline.settings.table import BY_KEY, TABLE, Setting, Settings, nearest_setting
from paceline.settings.values import WrongValueError, quoted

_KEYS = {row.name: row.key for row in TABLE}


class Source:
    """A place that settings come from: what stands there, and how a setting is written there."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values: dict[str, object] = {}
        """As written, by key."""
        for name, raw in values.items():
            row = BY_KEY.get(self.key_of(name))
            if row is None:
                raise SettingError(self.unknown(name))
            if row.key in self.values:
                raise SettingError(f"{self.origin(row)}: is there twice, in two spellings; keep one of them")
            self.values[row.key] = raw

    def key_of(self, name: str) -> str:
        """The key of what is named so here."""
        return name

    def origin(self, row: Setting) -> str:
        """How the setting is named here."""
        raise NotImplementedError

    def cite(self, row: Setting, raw: object) -> str:
        """The setting and what was given, as it was written here."""
        raise NotImplementedError

    def unknown(self, name: str) -> str:
        """What to say of a name that is no setting."""
        nearest = nearest_setting(name)
        remedy = f"did you mean {nearest.key}?" if nearest else f"the settings are {', '.join(BY_KEY)}"
        return f"there is no setting {name!r}; {remedy}"


class CommandLine(Source):
    """Options; `spelled` says by key which spelling was used, where it was not the long one."""

    def __init__(self, values: Mapping[str, object], spelled: Mapping[str, str] | None = None) -> None:
        self.spelled = spelled or {}
        super().__init__(values)

    def key_of(self, name: str) -> str:
        return _KEYS.get(name, name)

    def origin(self, row: Setting) -> str:
        return self.spelled.get(row.key, row.option)

    def cite(self, row: Setting, raw: object) -> str:
        return f"{self.origin(row)} {_short(raw if isinstance(raw, str) and raw and raw.isprintable() else repr(raw))}"


class Environment(Source):
    """PACELINE_* variables; an empty one counts as not set, one that is no setting belongs to somebody else."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__({row.key: environment[row.variable] for row in TABLE if environment.get(row.variable)})

    def origin(self, row: Setting) -> str:
        return row.variable

    def cite(self, row: Setting, raw: object) -> str:
        return f"{row.variable}={_short(raw if isinstance(raw, str) and raw.isprintable() else repr(raw))}"


class File(Source):
    """Keys of a TOML file or of a table in it; max_message may be written max-message, as the option is."""

    def __init__(self, values: Mapping[str, object], name: str) -> None:
        self.name = name
        super().__init__(values)

    def key_of(self, name: str) -> str:
        return name.replace("-", "_")

    def origin(self, row: Setting) -> str:
        return f"{row.key} in {self.name}"

    def cite(self, row: Setting, raw: object) -> str:
        shown = {True: "true", False: "false"}[raw] if isinstance(raw, bool) else raw
        if isinstance(raw, str):
            shown = quoted(raw)
        return f"{row.key} = {_short(str(shown))} in {self.name}"

    def unknown(self, name: str) -> str:
        return f"{self.name}: {super().unknown(name)}"


class Arguments(Source):
    """Keyword arguments of `paceline.serve`: `as_`, since `as` is a keyword; `as` is understood too."""

    def key_of(self, name: str) -> str:
        return _KEYS.get(name, name)

    def origin(self, row: Setting) -> str:
        return f"the argument {row.name}"

    def cite(self, row: Setting, raw: object) -> str:
        return f"{row.name}={_short(repr(raw))}"


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, and for each key where its value came from; a key that is not in `sources` has its default."""

    settings: Settings
    sources: Mapping[str, Source]
    file: str = ""
    """The file among the sources, by its name; empty: there is none, or it says nothing."""

    def refused(self, key: str, why: str) -> SettingError:
        """The error for a setting with which something else is wrong than this module can see."""
        row = BY_KEY[key]
        source = self.sources.get(key)
        return SettingError(f"{source.cite(row, source.values[key]) if source else row.key}: {why}")


def resolve(
    command_line: Mapping[str, object],
    environment: Mapping[str, str],
    file: Mapping[str, object] | None,
) -> Settings:
    """The settings of these three places.  Raises SettingError, which names the setting as it is written where it is.

    Keys of `command_line` and `file` are those of the table (`as_` may be written `as`); values are texts or typed.
    """
    return lay([CommandLine(command_line), Environment(environment), File(file or {}, "paceline.toml")]).settings


def lay(sources: Sequence[Source]) -> Resolved:
    """Lay the sources over each other, the first on top.  Raises SettingError."""
    values: dict[str, Any] = {}
    origins: dict[str, Source] = {}
    for source in sources:
        for key, raw in source.values.items():
            value = _checked(BY_KEY[key], source, raw)
            if key not in origins:
                values[BY_KEY[key].name] = value
                origins[key] = source
    file = next((source.name for source in sources if isinstance(source, File) and source.values), "")
    resolved = Resolved(Settings(**values), origins, file)
    settings = resolved.settings
    if settings.workers and settings.max_workers and settings.workers > settings.max_workers:
        limit = origins["max_workers"].origin(BY_KEY["max_workers"])
        raise resolved.refused("workers", f"must be at most {settings.max_workers}, because {limit} says so")
    if odd := oddity(settings):
        raise resolved.refused(*odd)
    return resolved


def _checked(row: Setting, source: Source, raw: object) -> Any:
    try:
        return row.kind.read(raw)
    except WrongValueError as wrong:
        remedy = wrong.remedy or (
            f"the nearest right value is {wrong.nearest}" if wrong.nearest else f"the default is {row.default_text}"
        )
        wrong_part = raw if wrong.value is None else wrong.value
        raise SettingError(f"{source.cite(row, wrong_part)}: must be {wrong.rule}; {remedy}") from None


def unknown_variables(environment: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """One sentence for each variable that looks like ours and is not; `known` are names with another use."""
    ours = {row.variable: row for row in TABLE}
    texts = []
    for name in sorted(environment):
        if name.startswith("PACELINE_") and name not in ours and name not in known:
            nearest = nearest_setting(name.removeprefix("PACELINE_"))
            hint = f"; did you mean {nearest.variable}?" if nearest else ""
            texts.append(f"{name} is set, but there is no such setting, so it has no effect{hint}")
    return texts
