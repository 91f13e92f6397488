"""The command `paceline`.

    program    the commands together, and how every way to end becomes an exit code and a sentence
    serve      `paceline serve`
    ctl        `paceline ctl`; what its commands do is in controlling
    config     what the command line reads besides itself: TOML files
    launch     from settings to a running server; `paceline.serve` takes this way too, and without click
    streams    standard output and standard error

Nothing is imported here, so that Ctrl-C during the import of everything else finds `main` already waiting for it.
"""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: that of the process) and return the exit code.

    0 clean, 1 a bug of ours, 2 usage or settings, 3 could not start, 4 calls were cut by the drain deadline; 130 after
    Ctrl-C outside serving, 141 when standard output is a pipe that nobody reads any more.
    """
    try:
        from paceline.cli.program import run

        return run(arguments)
    except KeyboardInterrupt:
        return 130
