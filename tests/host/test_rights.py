"""Giving rights up: in which order, all of them, and for good; with a kernel of our own, and with the real one."""

import ctypes
import errno
import grp
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import HostError
from paceline.host import processes, rights
from paceline.host.rights import KERNEL, Account, Kernel, NoAccountError

pytestmark = pytest.mark.usefixtures("nothing_left")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")

WEB = Account(33, 34, (34, 50), "web", "/var/www")


class Fake(Kernel):
    """A kernel that obeys, as far as `leaks` lets it: what is named there is kept, or can be had again."""

    def __init__(self, leaks: str = "", refuses: str = "", capabilities: int = -1) -> None:
        self.done: list[object] = []
        self.leaks = leaks
        self.refuses = refuses
        self.has = capabilities
        self.ids: dict[str, Any] = {"groups": [0], "gid": (0, 0, 0), "uid": (0, 0, 0)}
        self.parent = 1

    def _set(self, name: str, value: object) -> None:
        if self.refuses == name:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        if self.ids["uid"][1] != 0:  # on the way back
            if self.leaks != name:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return
        self.done.append((name, value))
        self.ids[name] = value if self.leaks != f"keeps {name}" else self.ids[name]

    def setgroups(self, groups: Sequence[int]) -> None:
        self._set("groups", groups)

    def setresgid(self, *ids: int) -> None:
        self._set("gid", ids)

    def setresuid(self, *ids: int) -> None:
        self._set("uid", ids)

    def getgroups(self) -> list[int]:
        return self.ids["groups"]  # type: ignore[no-any-return]

    def getresgid(self) -> tuple[int, int, int]:
        return self.ids["gid"]  # type: ignore[no-any-return]

    def getresuid(self) -> tuple[int, int, int]:
        return self.ids["uid"]  # type: ignore[no-any-return]

    def getppid(self) -> int:
        return self.parent

    def capabilities(self) -> int:
        return self.has

    def permitted(self) -> int:
        return self.has

    def drop_capabilities(self) -> None:
        self.done.append("capabilities")

    def forbid_new(self) -> None:
        if self.refuses == "forbid":
            raise OSError(errno.EINVAL, "Invalid argument")
        self.done.append("forbid")

    def is_dumpable(self) -> bool:
        return True

    def set_dumpable(self) -> None:
        self.done.append("dumpable")

    def death_signal(self) -> int:
        return signal.SIGTERM

    def die_with_parent(self, parent: int, number: int) -> None:
        self.done.append((parent, number))


def test_the_order_is_the_only_one_that_works() -> None:
    kernel = Fake()
    rights.become(WEB, kernel)
    assert kernel.done == [
        ("groups", [34, 50]),
        ("gid", (34, 34, 34)),
        ("uid", (33, 33, 33)),
        "capabilities",
        "dumpable",
        (1, signal.SIGTERM),
    ]


@pytest.mark.parametrize(
    ("leaks", "said"),
    [
        ("uid", "user 0 could be had again"),
        ("gid", "group 0 could be had again"),
        ("groups", "any group could be had"),
        ("keeps groups", "its groups are others"),
        ("keeps gid", "its ids are others"),
    ],
)
def test_a_way_back_is_found(leaks: str, said: str) -> None:
    with pytest.raises(HostError, match=f"became web .*, but .*{said}.*: this system does not let rights be given up"):
        rights.become(WEB, Fake(leaks))


def test_root_that_stays_root_keeps_what_root_has() -> None:
    kernel = Fake()
    rights.become(Account(0, 34, (34,), "root", "/root"), kernel)
    assert "capabilities" not in kernel.done
    assert kernel.getresgid() == (34,) * 3


@pytest.mark.parametrize("step", ["groups", "gid", "uid"])
def test_a_kernel_that_refuses_is_told_of(step: str) -> None:
    said = r"^cannot become web \(uid 33, gid 34\): Operation not permitted; in a container, its user namespace must"
    with pytest.raises(HostError, match=said):
        rights.become(WEB, Fake(refuses=step))


def test_who_may() -> None:
    assert rights.why_not(WEB, Fake()) == ""
    assert rights.why_not(WEB, Fake(capabilities=1 << 6 | 1 << 7)) == ""
    for capabilities, missing in ((0, "CAP_SETGID and CAP_SETUID"), (1 << 6, "CAP_SETUID"), (1 << 7, "CAP_SETGID")):
        said = rights.why_not(WEB, Fake(capabilities=capabilities))
        assert said.startswith(
            f"only root may become another user, and this is uid 0, without {missing}; start as root"
        )
    assert "CAP_SETUID" not in rights.why_not(Account(0, 34), Fake(capabilities=0))


def test_whose_this_process_is_already() -> None:
    kernel = Fake()
    assert rights.is_ours(Account(0, 0), kernel)
    assert not rights.is_ours(WEB, kernel)
    kernel.ids["uid"] = (33, 33, 0)
    kernel.ids["gid"] = (34, 34, 34)
    assert not rights.is_ours(WEB, kernel), "it could go back to the saved one"
    kernel.ids["uid"] = (33, 33, 33)
    assert not rights.is_ours(WEB, kernel), "what it can do is more than that user can"
    kernel.has = 0
    assert rights.is_ours(WEB, kernel)


def test_nothing_gains_rights_later() -> None:
    kernel = Fake()
    rights.forbid_new(kernel)
    assert kernel.done == ["forbid"]
    with pytest.raises(HostError, match="--no-new-privs on: the kernel refuses it"):
        rights.forbid_new(Fake(refuses="forbid"))


# Accounts


def test_accounts_by_name_and_by_number() -> None:
    entry = pwd.getpwnam("nobody")
    by_name, by_number = rights.account("nobody", None), rights.account(str(entry.pw_uid), None)
    assert by_name == by_number
    assert (by_name.uid, by_name.gid, by_name.name, by_name.home) == (
        entry.pw_uid,
        entry.pw_gid,
        "nobody",
        entry.pw_dir,
    )
    assert by_name.variables() == {"HOME": entry.pw_dir, "USER": "nobody", "LOGNAME": "nobody"}
    assert by_name.groups == tuple(sorted(os.getgrouplist("nobody", entry.pw_gid)))


def test_a_group_beside_the_user_and_a_number_that_nobody_has() -> None:
    gid = grp.getgrnam("daemon").gr_gid
    assert rights.account("nobody", "daemon").gid == gid
    assert gid in rights.account("nobody", "daemon").groups
    stranger = rights.account("123456", "654321")
    assert stranger == Account(123456, 654321, (654321,), "", "/")
    assert stranger.text == "uid 123456, gid 654321"
    assert stranger.variables() == {"HOME": "/"}


def test_the_supplementary_groups_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda name, gid: [50, gid, 60] if name == "nobody" else [])
    assert rights.account("nobody", "1").groups == (1, 50, 60)


def test_who_is_that_user_keeps_its_groups() -> None:
    own = rights.account(str(os.getuid()), None)
    assert (own.uid, own.gid, own.groups) == (os.getuid(), os.getgid(), tuple(sorted(os.getgroups())))
    assert rights.account(None, "1").uid == os.getuid()


@pytest.mark.parametrize(
    ("user", "group", "setting", "said"),
    [
        ("nobodi", None, "user", "there is none of that name; did you mean nobody?"),
        ("nobody", "demon", "group", "there is none of that name; did you mean daemon?"),
        ("٣٣", None, "user", "there is none of that name"),
        ("nobody", "٣٣", "group", "there is none of that name"),
        ("123456", None, "user", "or have --group beside it: a number has no group"),
    ],
)
def test_there_is_no_such(user: str, group: str | None, setting: str, said: str) -> None:
    with pytest.raises(NoAccountError) as caught:
        rights.account(user, group)
    assert caught.value.setting == setting
    assert str(caught.value).endswith(said)


# The real kernel


def in_child(life: Callable[[], object]) -> str:
    """What `life` returns, or raises, in a child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(life())
        except BaseException as error:  # noqa: BLE001 - the test shall see it
            text = repr(error)
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode()
    os.waitpid(pid, 0)
    return text


def status(*names: str) -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0] in names]


forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@as_root
@forks
def test_the_real_one_obeys() -> None:
    def life() -> object:
        rights.become(Account(1234, 2345, (2345, 3456)))
        rights.forbid_new()
        return status("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs")

    none = "0" * 16
    ids = ["1234\t" * 3 + "1234", "2345\t" * 3 + "2345", "2345 3456"]
    assert in_child(life) == str([*ids, none, none, none, none, "1"])


@as_root
@forks
def test_capabilities_of_another_user_than_root_go_too() -> None:
    """A process of user 1000 that may become anybody: the kernel takes nothing from it by itself."""

    def life() -> object:
        libc = ctypes.CDLL(None)
        libc.prctl(8, 1, 0, 0, 0)  # PR_SET_KEEPCAPS
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        header, both = (ctypes.c_uint32 * 2)(0x20080522, 0), 1 << 6 | 1 << 7
        assert libc.capset(header, (ctypes.c_uint32 * 6)(both, both, 0, 0, 0, 0)) == 0
        who = Account(1234, 2345, (2345,))
        assert rights.why_not(who) == ""
        rights.become(who)
        return status("Uid", "CapPrm", "CapEff")

    assert in_child(life) == str(["1234\t" * 3 + "1234", "0" * 16, "0" * 16])


@as_root
@forks
def test_the_parents_end_and_the_users_eye_are_not_forgotten() -> None:
    def life() -> object:
        kernel = Kernel()
        kernel.die_with_parent(os.getppid(), signal.SIGUSR1)
        rights.become(Account(1234, 2345, (2345,)))
        return kernel.death_signal() == signal.SIGUSR1, kernel.is_dumpable(), os.stat("/proc/self").st_uid

    assert in_child(life) == str((True, True, 1234))


@as_root
@forks
def test_it_is_tried_beforehand(tmp_path: Path) -> None:
    who = rights.account("nobody", None)
    assert rights.rehearse(who, ["/", "/usr"]) == ""
    assert rights.rehearse(who, ["/", str(tmp_path), "/usr"]) == f"{who.text} cannot read {tmp_path}"
    assert os.geteuid() == 0


def test_who_is_that_user_already_loses_what_a_user_cannot_do() -> None:
    """As in a container with `--user` and `--cap-add`; the groups stay, which it has no right to change."""
    kernel = Fake(capabilities=1 << 10)  # CAP_NET_BIND_SERVICE
    kernel.ids = {"groups": [34, 60], "gid": (34, 34, 34), "uid": (33, 33, 33)}
    assert not rights.is_ours(WEB, kernel)
    assert rights.why_not(WEB, kernel) == ""
    rights.become(WEB, kernel)
    assert kernel.done[0] == "capabilities"
    assert kernel.ids["groups"] == [34, 60]


@as_root
@forks
def test_capabilities_that_survived_the_change_of_user_are_dropped() -> None:
    def kept() -> None:
        assert processes.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
        os.setgroups([0, 34])
        os.setresgid(34, 34, 34)
        os.setresuid(33, 33, 33)
        assert not KERNEL.capabilities(), "not in effect, but permitted"
        assert not rights.is_ours(WEB)
        rights.become(WEB)
        assert not KERNEL.permitted()

    assert in_child(kept) == "None"


@forks
def test_a_rehearsal_that_is_killed_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "become", lambda _who: os._exit(9))
    assert "that was ended from outside" in rights.rehearse(WEB, [])


@forks
def test_a_rehearsal_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_who: Account) -> None:
        raise HostError("cannot become web: no")

    monkeypatch.setattr(rights, "become", refuse)
    assert rights.rehearse(WEB, []) == "cannot become web: no"


def test_the_capabilities_of_this_process() -> None:
    script = "from paceline.host.rights import KERNEL; print(KERNEL.capabilities())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout
    (effective,) = status("CapEff")
    assert int(found) == int(effective, 16)


@as_root
@forks
def test_which_files_can_be_removed(tmp_path: Path) -> None:
    for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        assert path.stat().st_uid == 0
    root = Path(os.path.realpath("/tmp")) / f"paceline-rights-{os.getpid()}"
    root.mkdir()
    try:
        root.chmod(0o777)
        (root / "file").touch()
        sticky = root / "sticky"
        sticky.mkdir()
        sticky.chmod(0o1777)
        for name, uid in (("theirs", 0), ("ours", 1234)):
            (sticky / name).touch()
            os.chown(sticky / name, uid, uid)
        paths = [str(path) for path in (root / "file", sticky / "theirs", sticky / "ours", root / "none")]

        def life() -> object:
            rights.become(Account(1234, 2345, (2345,)))
            return [rights.may_remove(path) for path in paths]

        assert in_child(life) == str([True, False, True, False])
    finally:
        for path in (*sticky.iterdir(), root / "file"):
            path.unlink()
        sticky.rmdir()
        root.rmdir()
