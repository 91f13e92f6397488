"""What becomes of the rights: who is to serve, what is refused and what is said; the step itself is replaced here."""

import os
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import HostError, SettingError
from paceline.host import rights
from paceline.host.rights import Account
from paceline.settings import Settings
from paceline.supervisor import giving_up

pytestmark = pytest.mark.usefixtures("nothing_left")

WEB = Account(33, 34, (34,), "web", "/var/www")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the host answers, and what was asked of it."""
    answers: dict[str, Any] = {"is_ours": False, "why_not": "", "rehearse": "", "done": []}
    monkeypatch.setattr(rights, "account", lambda _user, _group: WEB)
    monkeypatch.setattr(rights, "is_ours", lambda _who: answers["is_ours"])
    monkeypatch.setattr(rights, "why_not", lambda _who: answers["why_not"])
    monkeypatch.setattr(rights, "rehearse", lambda _who, needed: answers["done"].append(needed) or answers["rehearse"])
    monkeypatch.setattr(rights, "become", lambda who: answers["done"].append(who))
    monkeypatch.setattr(rights, "forbid_new", lambda: answers["done"].append("forbid"))
    return answers


def test_nobody_is_asked_for(system: dict[str, Any]) -> None:
    assert giving_up.successor(Settings()) is None
    assert system["done"] == []


def test_the_user_is_tried_with_what_it_must_read(system: dict[str, Any]) -> None:
    assert giving_up.successor(Settings(user="web")) == WEB
    (needed,) = system["done"]
    assert any(path.endswith("/paceline") for path in needed)
    assert os.path.dirname(os.__file__) in needed


def test_who_is_that_user_has_nothing_to_do(system: dict[str, Any]) -> None:
    system["is_ours"] = True
    assert giving_up.successor(Settings(user="web")) is None
    assert system["done"] == []


def test_refusals_name_the_settings_as_they_are_written(system: dict[str, Any]) -> None:
    system["rehearse"] = "web cannot read /root/venv"
    with pytest.raises(
        HostError, match=r"^--user web --group adm: web cannot read /root/venv; Paceline and its Python"
    ):
        giving_up.successor(Settings(user="web", group="adm"))
    system["why_not"] = "only root may"
    with pytest.raises(HostError, match=r"^--group adm: only root may$"):
        giving_up.successor(Settings(group="adm"))


def test_a_user_that_has_gone_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match=r"^--user: must be a user of this machine"):
        giving_up.successor(Settings(user="no-such-user-here"))


@pytest.mark.parametrize(
    ("settings", "forbids"),
    [
        (Settings(), False),
        (Settings(user="web"), True),
        (Settings(group="web"), True),
        (Settings(user="web", no_new_privs="off"), False),
        (Settings(no_new_privs="on"), True),
    ],
)
def test_when_nothing_may_gain_rights(settings: Settings, forbids: bool, system: dict[str, Any]) -> None:
    assert giving_up.forbids_new(settings) is forbids
    giving_up.give_up(settings, None)
    assert system["done"] == (["forbid"] if forbids else [])


def test_the_environment_is_the_users(system: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "root's")
    giving_up.give_up(Settings(user="web"), WEB)
    assert system["done"] == [WEB, "forbid"]
    assert [os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")] == ["/var/www", "web", "web"]
    assert "XDG_RUNTIME_DIR" not in os.environ


def test_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(rights, "may_remove", lambda path: path == "/ours/pid")
    for files, config, settings in (
        (["/ours/pid"], "", Settings(user="web", no_new_privs="off")),
        (["/ours/pid", "/run/s", "/run/pid"], "no-such.toml", Settings(user="web")),
        ([], "no-such.toml", Settings(user="web", chdir=str(tmp_path))),
        ([], "/dev/fd/99", Settings(user="web")),
    ):
        giving_up.tell(settings, WEB, lambda event, **fields: said.append((event, fields)), files, config, "root")
    forbidden = "; no program that it starts gains rights (--no-new-privs)"
    dropped = {"before": "root", "user": WEB.text}
    assert said == [
        ("rights-dropped", {**dropped, "forbidden": ""}),
        ("rights-dropped", {**dropped, "forbidden": forbidden}),
        ("files-stay", {"user": WEB.text, "files": "/run/s, /run/pid"}),
        ("settings-unreadable", {"user": WEB.text, "file": "no-such.toml"}),
        ("rights-dropped", {**dropped, "forbidden": forbidden}),
        ("rights-dropped", {**dropped, "forbidden": forbidden}),
    ]


def test_who_started_us(monkeypatch: pytest.MonkeyPatch) -> None:
    for uid, said in ((0, "root"), (33, "uid 33 (web)")):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert giving_up.started_as({"USER": "web"}) == said
