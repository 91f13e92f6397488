"""Every setting of the server: one table, and everything that follows from it.  Pure.

    table      the rows, as the body of `Settings`
    values     how a value is written, checked and shown
    sources    command line > environment > file > default
    manual     --print-config, docs/settings.md

From the rows come the options of the command line, the PACELINE_* variables, the keys of the TOML file, the arguments
of `paceline.serve`, what is allowed, `--help`, `--print-config` and the manual: a setting is added by adding a row.
"""

from paceline.settings.manual import print_config, reference
from paceline.settings.sources import resolve
from paceline.settings.table import DEFAULTS, TABLE, Settings

__all__ = ["DEFAULTS", "TABLE", "Settings", "print_config", "reference", "resolve"]
