"""lab/running.py: whatever becomes of the process that measures, what it said is kept, and nothing of it is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import paceline.lab
from leftovers import children_of, eventually, is_alive, wait_gone
from paceline.errors import HostError, UsageError
from paceline.lab import running
from paceline.lab.records import Writer, read
from paceline.lab.results import Result
from paceline.lab.running import measure

pytestmark = pytest.mark.usefixtures("nothing_left")

NOTE = """if True:
    import os, signal, sys, threading
    says = int(sys.argv[3])
    os.write(says, b'{"sample": {"case": "a", "round": 1}}\\n')
    """
"""How a process in these tests begins: it says one sample."""
FOR_EVER = "threading.Event().wait()"


def measured(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """By a process that runs this code; its one sample was kept."""
    monkeypatch.setattr(running, "_BOOT", NOTE + code)
    result = measure("creation", folder, quick=True, seed=7)
    assert result.path == folder / "creation.jsonl"
    assert [dict(sample) for sample in result.samples] == [{"case": "a", "round": 1}]
    return result


def test_for_real() -> None:
    progress: list[tuple[str, float, float]] = []
    result = paceline.lab.run("creation", quick=True, seed=1, on_progress=lambda *it: progress.append(it))
    assert (result.name, result.finished, result.why) == ("creation", True, "")
    assert result.settings == {"quick": True, "seed": 1}
    assert {"pool", "thread", "fork", "spawn"} <= set(result.samples.cases)
    assert {sample["round"] for sample in result.samples} == set(range(1, 11))
    assert result.verdict.held is not None
    assert result.path is None, "nobody wanted it kept"
    assert len(result.plots) == 2
    assert max(share for _, share, _ in progress) == 1.0
    assert [seconds for _, _, seconds in progress] == sorted(seconds for _, _, seconds in progress)


def test_who_says_no_seed_gets_one_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_BOOT", "")
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    seeds = {measure("creation", folder, quick=True, seed=None).settings["seed"] for folder in folders}
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "its process was killed by SIGKILL"),
        (
            'os.write(says, b\'{"sample": {"ca\'); os.kill(os.getpid(), signal.SIGSEGV)',
            "its process was killed by SIGSEGV",
        ),
        ("os._exit(3)", "its process exited with code 3"),
        ('os.write(says, b\'{"failed": "no memory"}\\n\'); os._exit(1)', "no memory"),
    ],
)
def test_a_process_that_ends_in_the_middle(
    code: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measured(
        f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); {code}", tmp_path, monkeypatch
    )
    assert not result.finished
    assert result.why == why
    assert result.verdict.held is None
    assert (read(tmp_path / "creation.jsonl").why, result.path) == (why, tmp_path / "creation.jsonl")


def test_whom_it_has_started_holds_up_nobody_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = f"pid = os.fork(); os.write(says, b'{{}}\\n') if pid else {FOR_EVER}; "
    tell = 'os.write(says, b\'{"failed": "%d"}\\n\' % pid); os.kill(os.getpid(), signal.SIGKILL)'
    result = measured(child + tell, tmp_path, monkeypatch)
    wait_gone([int(result.why)])


def test_one_that_closes_its_pipe_and_stays_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLITE_S", 0.05)
    code = f"signal.signal(signal.SIGINT, signal.SIG_IGN); os.close(says); {FOR_EVER}"
    assert measured(code, tmp_path, monkeypatch).why == "its process did not end"


def test_one_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_BOOT", FOR_EVER.replace("threading", "__import__('threading')"))
    monkeypatch.setattr(running, "LEAST_S", 0.05)
    monkeypatch.setattr(running, "LONGEST", 0)
    result = measure("creation", tmp_path, quick=True, seed=7)
    assert (result.finished, result.why) == (False, "it had not ended after 0.05 s")


def test_an_interrupt_ends_it_politely_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tidy = "signal.signal(signal.SIGINT, lambda *_: (os.write(2, b'tidied up'), os._exit(0)))"
    monkeypatch.setattr(running, "_BOOT", f"{NOTE}{tidy}; os.write(says, b'{{}}\\n'); {FOR_EVER}")
    heard = 0

    def on_progress(*_: object) -> None:
        nonlocal heard
        heard += 1
        if heard == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        measure("creation", tmp_path, quick=True, seed=7, on_progress=on_progress)
    kept = read(tmp_path / "creation.jsonl")
    assert (len(kept.samples), kept.finished, kept.why) == (1, False, "interrupted")
    assert capfd.readouterr().err == "tidied up"


def test_when_whoever_asked_is_killed_it_ends_too(tmp_path: Path) -> None:
    code = f"import paceline.lab; paceline.lab.run('creation', out={str(tmp_path)!r})"
    path = tmp_path / "creation.jsonl"
    with subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: path.exists() and '"sample"' in path.read_text(), 30)
            (measuring,) = children_of(process.pid)
        finally:
            process.kill()
        wait_gone([measuring], 15)
        _, err = process.communicate(timeout=15)  # at its end: nobody holds it open
    assert err == ""
    assert not is_alive(measuring)
    kept = read(path)
    assert (bool(kept.samples), kept.finished, kept.seconds) == (True, False, None)


def test_a_students_file_is_not_taken_for_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "signal", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "_BOOT", "import json, signal, random, os; os._exit(0)")
    assert measure("creation", tmp_path, quick=True, seed=7).why == ""


def test_a_process_that_cannot_be_started_is_said_in_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(HostError, match="creation: its process could not be started: No such file"):
        measure("creation", tmp_path, quick=True, seed=7)
    assert "could not be started" in read(tmp_path / "creation.jsonl").why


def test_a_disk_that_is_full_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def write(_writer: object, **line: object) -> None:
        nonlocal written
        written += 1
        if written > 1:
            raise HostError("is the disk full?")

    monkeypatch.setattr(Writer, "write", write)
    monkeypatch.setattr(running, "_BOOT", NOTE + FOR_EVER)
    with pytest.raises(HostError, match="is the disk full"):
        measure("creation", tmp_path, quick=True, seed=7)


def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no experiment"):
        measure("nothing", tmp_path, quick=True, seed=1)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(HostError, match="results cannot be kept there"):
        paceline.lab.run("creation", quick=True, out=tmp_path / "file")


def test_samples_come_as_they_were_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured("os._exit(0)", tmp_path, monkeypatch)
    path = tmp_path / "creation.jsonl"
    head, sample, end = (json.loads(line) for line in path.read_text().splitlines())
    assert head["head"]["settings"] == {"quick": True, "seed": 7}
    assert sample == {"sample": {"case": "a", "round": 1}}
    assert end["end"]["finished"]


def test_settings_are_kept_with_the_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = measured('os.write(says, b\'{"settings": {"clients": 16}}\\n\'); os._exit(0)', tmp_path, monkeypatch)
    assert result.settings == {"quick": True, "seed": 7, "clients": 16}


def test_what_is_predicted_and_run_is_kept_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured("os.kill(os.getpid(), signal.SIGKILL)", tmp_path, monkeypatch)
    kept = read(tmp_path / "creation.jsonl")
    assert kept.prediction.figures == {"at least": 3.0}
    assert "os.fork()" in kept.code


def test_elsewhere_than_on_linux_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(HostError, match="measures on Linux only, and this is darwin"):
        measure("creation", tmp_path, quick=True, seed=7)
    assert os.listdir(tmp_path) == []
