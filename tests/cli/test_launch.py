"""cli/launch.py: what is checked before the supervisor is called, and with what it is called."""

import os
import sys
import threading
import typing
from pathlib import Path

import pytest

import paceline
from paceline.cli.keywords import Keywords
from paceline.cli.launch import Again, launch, serve, warn_of_unknown
from paceline.errors import HostError, SettingError, TargetError, UsageError
from paceline.host.activation import NONE
from paceline.settings import TABLE
from paceline.settings.sources import CommandLine, Resolved, lay

if typing.TYPE_CHECKING:
    from cli.conftest import Supervisor


def given(**values: object) -> Resolved:
    return lay([CommandLine(values)])


def test_the_supervisor_gets_the_settings_and_its_exit_code_is_returned(supervisor: "Supervisor") -> None:
    supervisor.code = 4
    assert launch(given(threads="8")) == 4
    (call,) = supervisor.calls
    assert (call.name, call.settings.threads, call.target) == ("serve", 8, None)


def test_a_check_is_a_check(supervisor: "Supervisor") -> None:
    assert launch(given(), check=True) == 0
    assert [call.name for call in supervisor.calls] == ["check"]


def test_a_wrong_framing_is_refused_before_anything_is_started(supervisor: "Supervisor") -> None:
    with pytest.raises(SettingError, match=r"^--framing lines: there is no framing 'lines'; did you mean line\?$"):
        launch(given(framing="lines"))
    with pytest.raises(SettingError, match=r"^--framing fixed:100: .*--max-message"):
        launch(given(framing="fixed:100", max_message="10"))
    assert not supervisor.calls


def test_a_wrong_probe_is_refused_before_anything_is_started(supervisor: "Supervisor") -> None:
    with pytest.raises(SettingError, match=r"^--probe ping\\q: \\q is no escape; there are \\r \\n"):
        launch(given(probe="ping\\q"))
    with pytest.raises(SettingError, match=r"^--probe-reply pong: there is no --probe that it could be the answer to"):
        launch(given(probe_reply="pong"))
    assert not supervisor.calls


def test_chdir_is_applied_first_and_absolute_afterwards(supervisor: "Supervisor", folder: Path) -> None:
    (folder / "app").mkdir()
    launch(given(chdir="app"))
    (call,) = supervisor.calls
    assert call.folder == call.settings.chdir == os.environ["PWD"] == str(folder / "app")


def test_chdir_keeps_symbolic_links_as_they_were_written(supervisor: "Supervisor", folder: Path) -> None:
    (folder / "v1" / "app").mkdir(parents=True)
    (folder / "current").symlink_to("v1")
    os.chdir(folder / "current")
    os.environ["PWD"] = str(folder / "current")
    launch(given(chdir="app"))
    (call,) = supervisor.calls
    assert call.settings.chdir == os.environ["PWD"] == str(folder / "current" / "app")
    assert call.folder == str(folder / "v1" / "app")


def test_chdir_does_not_trust_a_folder_that_the_environment_only_claims(supervisor: "Supervisor", folder: Path) -> None:
    (folder / "app").mkdir()
    for claimed in ("/", "/nowhere", "relative", ""):
        os.chdir(folder)
        os.environ["PWD"] = claimed
        launch(given(chdir="app"))
        assert supervisor.calls.pop().settings.chdir == str(folder / "app")


def test_how_long_a_program_that_is_started_now_has_to_be_ready(folder: Path) -> None:
    (folder / "app").mkdir()
    seconds = iter(["5", "50"])
    again = Again(lambda: given(boot_timeout=next(seconds), chdir="app"))
    resolved, _ = again.first()
    again.begin(resolved, str(folder), NONE)
    os.chdir(folder / "app")
    assert again.boot_timeout() == 50.0
    assert os.getcwd() == str(folder), "a file is looked for where the server was started"
    assert again.resolved.settings.boot_timeout == 5.0, "it was only looked at"


def test_a_folder_that_cannot_be_entered_is_refused_by_name(supervisor: "Supervisor", folder: Path) -> None:
    (folder / "file").touch()
    for name, why in (("nowhere", "No such file or directory"), ("file", "Not a directory")):
        with pytest.raises(SettingError, match=rf"^--chdir {name}: {why}; it must be a folder"):
            launch(given(chdir=name))
    assert not supervisor.calls


def test_another_system_is_refused(supervisor: "Supervisor", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(HostError, match="serves on Linux only, and this is darwin"):
        launch(given())
    assert not supervisor.calls


def test_unknown_variables_are_warned_about(capfd: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown({"PACELINE_CONFIG", "PACELINE_BIND", "HOME"}, "text")
    assert capfd.readouterr().err == ""
    warn_of_unknown({"PACELINE_THREAD"}, "text")
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(
        " warning paceline: PACELINE_THREAD is set, but there is no such setting, so it has no effect; "
        "did you mean PACELINE_THREADS?"
    )


# ---- paceline.serve


def handler(message: bytes) -> bytes:
    return message


def test_a_target_may_be_a_text_or_the_handler_itself(supervisor: "Supervisor") -> None:
    paceline.serve("app:answer", threads=8, max_message="64k", as_="message")
    paceline.serve(handler)
    paceline.serve(Falsy())
    first, second, third = supervisor.calls
    assert (first.settings.target, first.target, first.settings.threads) == ("app:answer", None, 8)
    assert (first.settings.max_message, first.settings.as_) == (65536, "message")
    assert (second.settings.target, second.target) == ("handler", handler)
    assert (third.settings.target, type(third.target)) == ("Falsy", Falsy)


class Falsy:
    def __call__(self, message: bytes) -> bytes:
        return message

    def __bool__(self) -> bool:
        return False


def test_environment_and_file_are_read_only_with_a_config(
    supervisor: "Supervisor", folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "paceline.toml").write_text("threads = 2\nbacklog = 3\nworkers = 4\ntarget = 'x:y'\n")
    monkeypatch.setenv("PACELINE_THREADS", "5")
    monkeypatch.setenv("PACELINE_BACKLOG", "6")
    monkeypatch.setenv("PACELINE_THREAD", "7")
    paceline.serve("echo", threads=8)
    without = supervisor.calls.pop().settings
    assert (without.threads, without.backlog, without.workers) == (8, 2048, None)
    assert capfd.readouterr().err == ""
    paceline.serve("echo", config=folder / "paceline.toml", threads=8)
    with_ = supervisor.calls.pop().settings
    assert (with_.threads, with_.backlog, with_.workers, with_.target) == (8, 6, 4, "echo")
    assert "PACELINE_THREAD is set" in capfd.readouterr().err


def test_wrong_arguments_are_refused_by_name(supervisor: "Supervisor") -> None:
    with pytest.raises(SettingError, match=r"^threads=0: must be"):
        paceline.serve("echo", threads=0)
    with pytest.raises(SettingError, match=r"^there is no setting 'thread'; did you mean threads\?"):
        paceline.serve("echo", thread=1)  # type: ignore[call-arg]
    with pytest.raises(SettingError, match=r"^framing=.*a framing object belongs to the handler"):
        paceline.serve("echo", framing=paceline.Lines(limit=10))  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"^framing='lines': there is no framing"):
        paceline.serve("echo", framing="lines")
    with pytest.raises(SettingError, match=r"^config='gone': the file cannot be read"):
        paceline.serve("echo", config="gone")
    with pytest.raises(SettingError, match=r"^target='': must be"):
        paceline.serve("")
    with pytest.raises(TargetError, match=r"^paceline.serve\(None\)"):
        paceline.serve(None)
    assert not supervisor.calls


def test_only_the_main_thread_may_serve(supervisor: "Supervisor") -> None:
    caught: list[BaseException] = []

    def try_it() -> None:
        try:
            serve("echo", None, {})
        except UsageError as error:
            caught.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join(10)
    assert "call it in the main thread" in str(caught[0])
    assert not supervisor.calls


def test_another_exit_code_than_0_ends_the_program_with_it(supervisor: "Supervisor") -> None:
    supervisor.code = 4
    with pytest.raises(SystemExit) as caught:
        paceline.serve("echo")
    assert caught.value.code == 4


def test_an_error_of_the_machine_comes_through(supervisor: "Supervisor") -> None:
    supervisor.error = HostError("127.0.0.1:8888 is in use")
    with pytest.raises(HostError):
        paceline.serve("echo")


def test_type_checkers_know_every_setting() -> None:
    assert typing.get_type_hints(Keywords).keys() == {row.name for row in TABLE} - {"target"}
