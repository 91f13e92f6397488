"""lab/catalogue.py: every experiment is whole, in both languages, and can be judged anywhere, without a server."""

import inspect
import re
import subprocess
import sys

import pytest

from paceline.errors import UsageError
from paceline.lab.catalogue import NAMES, experiment_of
from paceline.lab.experiment import Machine
from paceline.lab.samples import Samples
from paceline.lab.texts import Text

MACHINES = [Machine(cores, has_gil) for cores in (1, 2, 64) for has_gil in (True, False)]
QUICK_S, FULL_S = 90.0, 600.0

every = pytest.mark.parametrize("name", NAMES)


def is_in_both(text: Text) -> bool:
    return bool(re.search(r"[A-Za-z]", text.en)) and bool(re.search(r"[\u4e00-\u9fff]", text.zh))


@every
def test_it_is_whole_and_in_both_languages(name: str) -> None:
    found = experiment_of(name)
    assert found.name == name
    assert is_in_both(found.question)
    assert is_in_both(found.explains)
    assert not re.search(r"[\u4e00-\u9fff]", found.question.en + found.explains.en)
    assert found.question.en.endswith("?")
    assert found.question.zh.endswith("？")
    assert 0 < found.quick_s < found.full_s


@every
def test_the_code_that_was_run_can_be_shown(name: str) -> None:
    shown = experiment_of(name).shown
    assert shown
    for function in shown:
        assert inspect.getsource(function).lstrip().startswith(("def ", "class ", "@"))


@every
@pytest.mark.parametrize("machine", MACHINES, ids=lambda it: f"{it.cores} cores, {'GIL' if it.has_gil else 'no GIL'}")
def test_it_predicts_on_every_machine_and_concludes_nothing_from_nothing(name: str, machine: Machine) -> None:
    found = experiment_of(name)
    assert is_in_both(found.predict(machine).text)
    verdict = found.judge(machine, Samples())
    assert verdict.held is None
    assert is_in_both(verdict.text)
    found.draw(machine, Samples())
    table = found.tabulate(machine, Samples())
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_each_is_there_once_and_all_together_take_no_longer_than_is_said() -> None:
    assert len(set(NAMES)) == len(NAMES)
    experiments = [experiment_of(name) for name in NAMES]
    assert sum(it.quick_s for it in experiments) <= QUICK_S
    assert sum(it.full_s for it in experiments) <= FULL_S


def test_one_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"the lab has no experiment 'cretion'; did you mean creation\?"):
        experiment_of("cretion")
    with pytest.raises(UsageError, match=r"the lab has no experiment '\.\./x'; there are .*creation"):
        experiment_of("../x")


def test_what_reports_are_made_of_imports_no_server() -> None:
    code = """if True:
        import sys
        from paceline.lab.catalogue import NAMES, experiment_of
        from paceline.lab import page, records, terminal
        for name in NAMES:
            experiment_of(name)
        rooms = {"worker", "supervisor", "scoreboard", "host", "client", "wire", "chaos", "connect", "ctl", "testing"}
        found = {name for name in sys.modules if name.startswith("paceline.") and name.split(".")[1] in rooms}
        print(*sorted(found))
        print(*sorted({"click", "rich", "multiprocessing", "concurrent.futures", "sqlite3"} & sys.modules.keys()))
        """
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("\n\n", "")
