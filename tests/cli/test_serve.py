"""cli/serve.py: options, environment and file on their way into the settings; --help, --check, --print-config."""

import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from paceline.cli.program import program
from paceline.cli.serve import short_spellings
from paceline.settings import DEFAULTS, TABLE
from paceline.settings.table import GROUPS

if typing.TYPE_CHECKING:
    from cli.conftest import Ended, Supervisor

    Run = Callable[..., Ended]


def test_without_anything_the_defaults_are_served(run: "Run", supervisor: "Supervisor") -> None:
    assert run("serve").code == 0
    (call,) = supervisor.calls
    assert (call.name, call.settings, call.target) == ("serve", DEFAULTS, None)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.key)
def test_every_row_is_an_option_that_arrives(row: typing.Any, run: "Run", supervisor: "Supervisor") -> None:
    special = {
        "target": "a:b",
        "bind": ":80",
        "framing": "line",
        "allow": "10.0.0.0/8",
        "deny": "unix",
        "proxy_protocol": "10.0.0.0/8",
        "as": "connection",
        "start": "data",
        "chdir": "/",
        "heartbeat": "3",
        "max_rss": "64m",
        "max_buffered": "64m",
        "max_messages_jitter": "0.5",
        "probe_reply": "yes",
        "user": "root",
        "group": "root",
        "umask": "027",
        "socket_mode": "660",
        "socket_owner": "root:root",
        "no_new_privs": "on",
        "tls_client_cert": "optional",
        "alpn": "mqtt",
        "tls_min": "1.3",
    }
    asks_for = {
        "probe_reply": ("--probe", "ping"),
        "socket_mode": ("--bind", "unix:s"),
        "socket_owner": ("--bind", "unix:s"),
        "tls_key": ("--tls-cert", "a"),
        "tls_key_password_file": ("--tls-cert", "a"),
        "tls_ca": ("--tls-cert", "a", "--tls-client-cert", "required"),
        "tls_client_cert": ("--tls-cert", "a", "--tls-ca", "b"),
        "alpn": ("--tls-cert", "a"),
    }
    text = special.get(row.key) or {"Seconds": "1", "Whole": "7", "Choice": "json"}.get(type(row.kind).__name__, "5000")
    written = [text] if row.key == "target" else [row.option, text]
    written += asks_for.get(row.key, ())
    assert run("serve", *written).code == 0
    assert getattr(supervisor.settings, row.name) == row.kind.read(text) != row.default


def test_short_options(run: "Run", supervisor: "Supervisor") -> None:
    run("serve", "app:f", "-b", ":80", "-bunix:a,b", "-w2", "-t", "8")
    settings = supervisor.settings
    assert (settings.bind, settings.workers, settings.threads) == ((":80", "unix:a,b"), 2, 8)


def test_the_last_of_two_counts_but_addresses_add_up(run: "Run", supervisor: "Supervisor") -> None:
    run("serve", "-t", "8", "--threads=9", "--bind", ":80", "--bind", ":81")
    assert (supervisor.settings.threads, supervisor.settings.bind) == (9, (":80", ":81"))


def test_networks_add_up_with_commas_or_without(run: "Run", supervisor: "Supervisor") -> None:
    run("serve", "--deny", "unix", "--deny=10.0.0.0/8,::1")
    assert supervisor.settings.deny == ("unix", "10.0.0.0/8", "::1")


def test_command_line_over_environment_over_file(
    run: "Run", supervisor: "Supervisor", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "paceline.toml").write_text("threads = 1\nbacklog = 1\nworkers = 1\n")
    monkeypatch.setenv("PACELINE_THREADS", "2")
    monkeypatch.setenv("PACELINE_BACKLOG", "2")
    run("serve", "--threads", "3")
    settings = supervisor.settings
    assert (settings.threads, settings.backlog, settings.workers) == (3, 2, 1)


def test_the_file_can_be_named_on_the_command_line_and_in_the_environment(
    run: "Run", supervisor: "Supervisor", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("paceline.toml", "a.toml", "b.toml"), 1):
        (folder / name).write_text(f"threads = {number}\n")
    run("serve")
    monkeypatch.setenv("PACELINE_CONFIG", "a.toml")
    run("serve")
    run("serve", "--config", "b.toml")
    assert [call.settings.threads for call in supervisor.calls] == [1, 2, 3]
    monkeypatch.setenv("PACELINE_CONFIG", "gone.toml")
    ended = run("serve")
    assert ended.code == 2
    assert ended.err.startswith("paceline: PACELINE_CONFIG=gone.toml: the file cannot be read")


def test_the_file_is_looked_for_before_chdir_and_the_target_after_it(
    run: "Run", supervisor: "Supervisor", folder: Path
) -> None:
    (folder / "app").mkdir()
    (folder / "app" / "paceline.toml").write_text("threads = 1\n")
    (folder / "paceline.toml").write_text("threads = 2\nchdir = 'app'\n")
    run("serve", "app.py:f")
    (call,) = supervisor.calls
    assert (call.settings.threads, call.folder) == (2, str(folder / "app"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--threads", "0"], "--threads 0: must be a whole number from 1 to 4,096; the nearest right value is 1"),
        (["-t0"], "-t 0: must be a whole number from 1 to 4,096; the nearest right value is 1"),
        (["-t", "4", "--threads=0"], "--threads 0: must be"),
        (["--threads=-1"], "--threads -1: must be"),
        (["--threads", "-1"], "--threads -1: must be"),
        (["--threads", ""], "--threads '': must be a whole number from 1 to 4,096; the default is 64"),
        (["-b", "8888"], "-b 8888: must be HOST:PORT"),
        (["--idle-timeout", "0"], "--idle-timeout 0: must be a time from 10ms to 7d"),
        (["--framing", "fixd:4"], "--framing fixd:4: there is no framing 'fixd'; did you mean fixed:N"),
        (["--as", "wsgi"], "--as wsgi: must be message, connection or socketserver, or auto; the default is auto"),
        ([""], "TARGET '': must be a text that is not empty"),
        (["--config", ""], "--config '': must be the name of a file"),
    ],
)
def test_a_wrong_value_is_refused_as_it_was_written(
    arguments: list[str], text: str, run: "Run", supervisor: "Supervisor"
) -> None:
    ended = run("serve", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"paceline: {text}")
    assert ended.err.count("\n") == 1
    assert not supervisor.calls


def test_unknown_variables_are_warned_about_and_not_fatal(
    run: "Run", supervisor: "Supervisor", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_THREAD", "8")
    ended = run("serve", "--log-format", "json")
    assert ended.code == 0
    assert '"event": "setting-unknown"' in ended.err
    assert "PACELINE_THREAD is set" in ended.err


def test_check_loads_and_does_not_serve(run: "Run", supervisor: "Supervisor") -> None:
    supervisor.code = 3
    assert run("serve", "app:f", "--check").code == 3
    (call,) = supervisor.calls
    assert (call.name, call.settings.target) == ("check", "app:f")


def test_print_config_can_be_given_back(
    run: "Run", supervisor: "Supervisor", folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACELINE_BACKLOG", "5")
    (folder / "paceline.toml").write_text("idle_timeout = '2m'\n")
    arguments = ("serve", "app:f", "-t", "8", "--bind", ":80", "--bind", "unix:a", "--framing", r"delimiter:\r\n")
    shown = run(*arguments, "--print-config")
    assert (shown.code, shown.err) == (0, "")
    assert not supervisor.calls
    assert "threads = 8                               # -t\n" in shown.out
    run(*arguments)
    monkeypatch.delenv("PACELINE_BACKLOG")
    (folder / "again.toml").write_text(shown.out)
    run("serve", "--config", "again.toml")
    assert supervisor.calls[0].settings == supervisor.calls[1].settings


def test_print_config_does_not_show_what_would_be_refused(run: "Run") -> None:
    ended = run("serve", "--framing", "lines", "--print-config")
    assert (ended.code, ended.out) == (2, "")


def test_print_config_and_check_do_both(run: "Run", supervisor: "Supervisor") -> None:
    assert "threads = 64" in run("serve", "--print-config", "--check").out
    assert [call.name for call in supervisor.calls] == ["check"]


def test_help_is_grouped_and_says_everything_of_every_setting(run: "Run") -> None:
    ended = run("serve", "--help")
    assert (ended.code, ended.err) == (0, "")
    text = " ".join(ended.out.split())
    places = [text.index(f"{group}:") for group in (*GROUPS, "This command")]
    assert places == sorted(places)
    for row in TABLE:
        assert row.option in text
        assert f"default {row.default_text};" in text
        assert f"{row.variable}]" in text
        assert row.kind.allowed in text
    assert max(map(len, ended.out.splitlines())) <= 100
    assert run("serve", "-h").out == ended.out


def test_help_answers_whatever_else_is_wrong_with_the_values(run: "Run") -> None:
    assert run("serve", "--threads", "0", "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "spelled"),
    [
        (["-t", "8"], {"threads": "-t"}),
        (["-t8"], {"threads": "-t"}),
        (["--threads", "8"], {}),
        (["-t", "8", "--threads=8"], {}),
        (["--threads", "8", "-t", "8", "-w", "1"], {"threads": "-t", "workers": "-w"}),
        (["--", "-t"], {}),
        (["--workers-of-the-world"], {}),
    ],
)
def test_how_an_option_was_spelled(arguments: list[str], spelled: dict[str, str]) -> None:
    assert short_spellings(arguments) == spelled


def test_shells_can_complete_the_words_of_a_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_PACELINE_COMPLETE", "bash_complete")
    for begun, completed in (("--log-format j", "plain,json\n"), ("--config x", "file,x\n")):
        words = f"paceline serve {begun}"
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", "3")
        with pytest.raises(SystemExit):
            program.main(prog_name="paceline")
        assert capsys.readouterr().out == completed
