"""`paceline lab`: names into experiments, what they found onto standard output, what was measured into a report.

What measures and what draws is imported when the command runs: `paceline serve` starts without it.
"""

import json
import os
import secrets
import shlex
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paceline.cli.options import CommandGroup, subcommand, unwritable, value_of
from paceline.cli.serve import closing_options
from paceline.cli.streams import check_output, complain, open_missing_standard_descriptors, show
from paceline.errors import PacelineError
from paceline.settings.values import Choice, Whole

if TYPE_CHECKING:
    from paceline.lab.experiment import Experiment
    from paceline.lab.results import Result

_INTRODUCTION = """\
See on this machine what processes, threads and the GIL do: each experiment asks one question, says what theory
predicts, measures, and says whether it held here.

\b
  paceline lab list                  the experiments, and how long each takes
  paceline lab run turns gil         measure two of them; without names, all
  paceline lab run --quick           all, with few repetitions
  paceline lab report                a page of the newest measurements, with pictures

Everything happens in processes that it starts itself, on this machine, and that are gone at the end.
"""

_EPILOG = """\
Exit codes: 0 done, whatever the verdicts are; 1 an experiment failed (why, is shown; the others went on) or a bug of
ours; 2 wrong usage; 3 results cannot be kept, or no process can be made; 130 Ctrl-C: what was measured is kept.
"""

DEFAULT_PAGE = "paceline-lab.html"
_LANGUAGE = Choice(choices=("en", "zh"))
_SEED = Whole(low=0, high=(1 << 64) - 1)


def _language(lang: str | None) -> str:
    return str(value_of("--lang", _LANGUAGE, lang, "en"))


# list


def _list(json_: bool, lang: str | None) -> int:
    from paceline.lab.catalogue import NAMES, experiment_of
    from paceline.lab.terminal import list_text

    language = _language(lang)
    check_output()
    experiments = [experiment_of(name) for name in NAMES]
    if not json_:
        show(list_text(experiments, language))
        return 0
    for it in experiments:
        question = {"en": it.question.en, "zh": it.question.zh}
        row = {"name": it.name, "question": question, "quick_s": it.quick_s, "full_s": it.full_s}
        show(json.dumps(row) + "\n")
    return 0


# run


def _run(
    names: tuple[str, ...], quick: bool, json_: bool, out: str | None, seed: str | None, lang: str | None, quiet: bool
) -> int:
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    check_output()
    from paceline.host.signals import interrupting
    from paceline.lab.catalogue import experiment_of
    from paceline.lab.records import new_folder
    from paceline.lab.running import check_platform
    from paceline.lab.terminal import interrupted_text, kept_text

    check_platform()
    experiments = [experiment_of(name) for name in _chosen(names)]
    language = _language(lang)
    given = value_of("--seed", _SEED, seed)
    chance = secrets.randbelow(1 << 32) if given is None else given
    folder = new_folder(out, [it.name for it in experiments])
    report = _report_command(folder, out)
    tell = _said_on_standard_error(quiet) if json_ else show
    failed = 0
    try:
        with interrupting(signal.SIGTERM, signal.SIGHUP):  # SIGHUP: the terminal is gone, or the connection to it
            for result in _results(experiments, folder, quick=quick, seed=chance, quiet=quiet, language=language):
                failed += result is None or not result.finished
                if result is not None:
                    show(_json_of(result) if json_ else _text_of(result, language))
    except KeyboardInterrupt:
        complain(interrupted_text(str(folder), report)[language])
        return 130
    tell(kept_text(chance, str(folder), report)[language] + "\n")
    return 1 if failed else 0


def _chosen(names: Sequence[str]) -> list[str]:
    """Each once, in the order in which they were written; all, when none was."""
    from paceline.lab.catalogue import NAMES

    return list(NAMES) if not names or "all" in names else list(dict.fromkeys(names))


def _results(
    experiments: "Sequence[Experiment]", folder: Path, *, quick: bool, seed: int, quiet: bool, language: str
) -> "Iterator[Result | None]":
    """One after the other; None for one that failed in a way that nobody foresaw: it does not stop the others."""
    from paceline.lab import progress
    from paceline.lab.running import measure
    from paceline.lab.terminal import failed_text

    names = [it.name for it in experiments]
    expected_s = [it.quick_s if quick else it.full_s for it in experiments]
    for at, name in enumerate(names):
        result = None
        try:
            with progress.shown(names, expected_s, at, quiet=quiet, language=language) as on_progress:
                result = measure(name, folder, quick=quick, seed=seed, on_progress=on_progress)
        except PacelineError:
            raise
        except Exception:  # noqa: BLE001 - what one gets wrong is no reason not to measure the next one
            traceback.print_exc()
            complain(f"{name}: failed, which is a bug in Paceline; the others go on")
        if result is not None and not result.finished:
            complain(failed_text(name, result.why)[language])
        yield result


def _text_of(result: "Result", language: str) -> str:
    from paceline.lab.catalogue import experiment_of
    from paceline.lab.terminal import text_of

    columns = shutil.get_terminal_size().columns
    return text_of(
        experiment_of(result.name), result.machine, result.samples, why=result.why, language=language, columns=columns
    )


def _json_of(result: "Result") -> str:
    from paceline.lab.catalogue import experiment_of

    question = experiment_of(result.name).question
    told, found = result.prediction, result.verdict
    return json.dumps(
        {
            "experiment": result.name,
            "question": {"en": question.en, "zh": question.zh},
            "machine": dict(result.machine.facts),
            "settings": result.settings,
            "prediction": {"text": {"en": told.text.en, "zh": told.text.zh}, "figures": dict(told.figures)},
            "samples": [dict(sample) for sample in result.samples],
            "verdict": {
                "held": found.held,
                "text": {"en": found.text.en, "zh": found.text.zh},
                "figures": dict(found.figures),
            },
            "seconds": result.seconds,
            "finished": result.finished,
            "why": result.why,
            "file": str(result.path),
        }
    ) + "\n"  # fmt: skip


def _said_on_standard_error(quiet: bool) -> Callable[[str], None]:
    return (lambda _text: None) if quiet else (lambda text: complain(text.rstrip("\n")))


def _report_command(folder: Path, out: str | None) -> str:
    return "paceline lab report" + (f" --from {shlex.quote(str(folder))}" if out is not None else "")


# report


def _report(lang: str | None, out: str | None, from_: str | None) -> int:
    open_missing_standard_descriptors()
    check_output()
    from paceline.lab.records import home, read_folder, read_newest

    language = _language(lang)
    kept, left_out = read_newest() if from_ is None else read_folder(Path(from_))
    from paceline.lab.page import html_of

    page = html_of(kept, language)
    for why in left_out:
        complain(f"left out: {why}")
    if out == "-":
        show(page, "utf-8")
        return 0
    path = DEFAULT_PAGE if out is None else out
    replaced = os.path.exists(path)
    try:
        _write_whole(path, page)
    except OSError as error:
        raise unwritable("--out", path, error) from None
    experiments = "1 experiment" if len(kept) == 1 else f"{len(kept)} experiments"
    folders = {one.path.parent for one in kept}
    of = str(kept[0].path.parent) if len(folders) == 1 else f"{len(folders)} runs in {home()}"
    before = "; it took the place of what was there" if replaced else ""
    show(f"{path}: {experiments} of {of}{before}\n")
    return 0


def _write_whole(path: str, text: str) -> None:
    """All of it or nothing: a page that was there stays there when the disk is full."""
    if os.path.exists(path) and not os.path.isfile(path):  # a device, a pipe
        Path(path).write_text(text, encoding="utf-8")
        return
    target = Path(os.path.realpath(path))
    passing = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        passing.write_text(text, encoding="utf-8")
        passing.replace(target)
    finally:
        passing.unlink(missing_ok=True)


# The command line


def _option(name: str, metavar: str, help_: str) -> click.Option:
    names = [f"--{name.rstrip('_')}", name]
    if not metavar:
        return click.Option(names, is_flag=True, help=help_)
    return click.Option(names, type=click.UNPROCESSED, metavar=metavar, help=help_)


def _sub(
    name: str, callback: Callable[..., int], short: str, more: str, parameters: Sequence[click.Parameter]
) -> click.Command:
    return subcommand(name, callback, short, more, [*parameters, *closing_options()])


def _lang(of: str) -> click.Option:
    return _option("lang", "en|zh", f"The language of {of}. [default en]")


_COMMANDS = [
    _sub(
        "list",
        _list,
        "Show the experiments, and how long each takes.",
        "Nothing is measured.",
        [_option("json_", "", "JSON, one object a line."), _lang("the questions")],
    ),
    _sub(
        "run",
        _run,
        "Measure, and say what was found.",
        "NAME is an experiment that `paceline lab list` shows; without one, or with `all`, every one is measured. What "
        "is measured is kept in a folder of its own, as it comes; Ctrl-C keeps what there is. The results go to "
        "standard output, progress to standard error.",
        [
            click.Argument(["names"], nargs=-1, required=False, type=click.UNPROCESSED, metavar="[NAME…|all]"),
            _option("quick", "", "Few repetitions: all experiments in a minute and a half, on two cores."),
            _option("seed", "N", "Of all that is left to chance. [default: another one each time, and shown]"),
            _option(
                "out",
                "FOLDER",
                "Keep the results there, where none of these are. [default: a new one in ~/.local/share/paceline/lab]",
            ),
            _option("json_", "", "JSON, one object a line for each experiment, with every sample."),
            _lang("what is shown"),
            _option("quiet", "", "No progress."),
        ],
    ),
    _sub(
        "report",
        _report,
        "Make a page of what was measured, with pictures.",
        "The page is one HTML file that needs no network. It is made of the results alone, be they of another machine: "
        "of each experiment the newest one that came to its end, or of those in a folder.",
        [
            _lang("the page"),
            _option("out", "FILE", f"Where the page is written; - is standard output. [default {DEFAULT_PAGE}]"),
            _option("from_", "FOLDER", "The results of this folder. [default: of each experiment the newest]"),
        ],
    ),
]


lab = CommandGroup(
    "lab",
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="See what processes, threads and the GIL do here.",
    params=closing_options(),
    commands=_COMMANDS,
)
