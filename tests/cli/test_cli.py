"""cli/__init__.py: `main`, as a function, as `python -m paceline` and as the installed command."""

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import paceline.cli.program
from paceline import __version__
from paceline.cli import main

COMMAND = (sys.executable, "-P", "-m", "paceline")


def ended(*arguments: str, command: tuple[str, ...] = COMMAND) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_exit_code_and_the_streams_of_a_real_process(folder: Path) -> None:
    code, out, err = ended("serve", "--threads", "0")
    assert (code, out) == (2, "")
    assert err == "paceline: --threads 0: must be a whole number from 1 to 4,096; the nearest right value is 1\n"
    code, out, err = ended("serve", "-t", "8", "--print-config")
    assert (code, err) == (0, "")
    assert tomllib.loads(out)["threads"] == 8
    code, out, err = ended("--help")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: paceline ")


def test_the_installed_command_is_the_same() -> None:
    installed = Path(sys.executable).with_name("paceline")
    assert ended("--version", command=(str(installed),)) == (0, f"paceline {__version__}\n", "")


def test_a_variable_that_is_no_setting_is_warned_about(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_THREAD", "8")
    code, out, err = ended("serve", "--print-config")
    assert code == 0
    assert tomllib.loads(out)["threads"] == 64
    assert "PACELINE_THREAD is set" in err
    assert "did you mean PACELINE_THREADS?" in err


def test_ctrl_c_before_there_is_a_server_is_clean(folder: Path) -> None:
    os.mkfifo("settings.toml")
    process = subprocess.Popen([*COMMAND, "serve", "--config", "settings.toml"], stderr=subprocess.PIPE)
    with process, open("settings.toml", "wb"):  # opens when the command has begun to read it, and says nothing
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, b"")


def test_ctrl_c_while_everything_is_still_imported_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(paceline.cli.program, "run", interrupted)
    assert main([]) == 130


def test_main_itself_imports_nothing_that_takes_time() -> None:
    code = "import sys; import paceline.cli; assert not {'click', 'tomllib', 'paceline.settings'} & sys.modules.keys()"
    assert ended("-c", code, command=(sys.executable, "-P")) == (0, "", "")
