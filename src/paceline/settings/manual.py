"""The settings as files: TOML with the values of a run, and the page of the manual.  Pure."""

from paceline.settings.sources import Resolved, Source
from paceline.settings.table import GROUPS, TABLE, Setting, Settings
from paceline.settings.values import WrongValueError

_COMMENT_COLUMN = 40

_PREAMBLE = """\
# Settings

<!-- Written by `python -m paceline.settings > docs/settings.md`; change src/paceline/settings/table.py instead. -->

Every setting can be given in four places. The first that has it counts:

1. an option of `paceline serve` (or an argument of `paceline.serve`, with the name of the key),
2. an environment variable (an empty one counts as not set),
3. the TOML file: the one that `--config FILE` or `PACELINE_CONFIG` names, else `./paceline.toml`, else the table
   `[tool.paceline]` of `./pyproject.toml`,
4. the default.

A wrong value is refused wherever it stands, also where another place overrides it. `paceline serve --print-config`
shows every value and where it came from, as a file that can be used with `--config`.

Sizes are bytes, or have a unit: `64k`, `64KiB`, `1.5MiB`, `1g`; all units are powers of 1024. Times are seconds, or
have a unit: `20us`, `500ms`, `30s`, `2m`, `1h`, `1d`. Where `auto`, `off` or `unchanged` is allowed, it can be
written everywhere, so that an option can take back what the file says; in Python it is `None` (where both `auto` and
`off` are allowed, that is `off`).
"""


def print_config(resolved: Resolved) -> str:
    """All settings as TOML that `--config` takes; behind each value, where it came from.

    Raises SettingError for a value that is not Unicode text, which TOML cannot hold.
    """
    lines: list[str] = []
    for group, rows in GROUPS.items():
        lines += ["", f"# {group}"] if lines else [f"# {group}"]
        for row in rows:
            try:
                value = row.kind.toml(getattr(resolved.settings, row.name))
            except WrongValueError as wrong:
                raise resolved.refused(row.key, wrong.rule) from None
            lines.append(f"{row.key} = {value}".ljust(_COMMENT_COLUMN) + f"  # {_origin(row, resolved)}")
    return "\n".join(lines) + "\n"


class _Given(Source):
    """Somewhere, nobody knows any more where."""

    def origin(self, _row: Setting) -> str:
        return "set"

    def cite(self, row: Setting, raw: object) -> str:
        return f"{row.key} = {raw!r}"


def print_settings(settings: Settings) -> str:
    """All settings as TOML that `--config` takes; behind each value, whether it was set.  Raises as `print_config`."""
    values = {row.key: getattr(settings, row.name) for row in TABLE}
    given = {row.key: values[row.key] for row in TABLE if values[row.key] != row.default}
    return print_config(Resolved(settings, dict.fromkeys(given, _Given(given))))


def _origin(row: Setting, resolved: Resolved) -> str:
    source = resolved.sources.get(row.key)
    # a file's name may hold anything, a comment may not hold a line feed
    return "".join(c if c.isprintable() else "?" for c in source.origin(row)) if source else "default"


def reference() -> str:
    """The page of the manual, in Markdown."""
    parts = [_PREAMBLE]
    for group, rows in GROUPS.items():
        parts.append(f"\n## {group}\n\n| setting | option and variable | default | allowed | what it is |\n")
        parts.append("| --- | --- | --- | --- | --- |\n")
        parts += [_line(row) for row in rows]
    return "".join(parts)


def _line(row: Setting) -> str:
    option = f"`{row.option}`" + (f", `{row.short}`" if row.short else "")
    allowed = row.kind.allowed and " or ".join((row.kind.allowed, *(f"`{word}`" for word in row.kind.words)))
    cells = (f"`{row.key}`", f"{option}<br>`{row.variable}`", f"`{row.default_text}`", allowed, row.help)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
