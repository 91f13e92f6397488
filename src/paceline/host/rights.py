"""With which rights this process runs, and giving them up for good.  One verb per function, no policy.

credentials(7), capabilities(7), prctl(2).  What is easy to get wrong, and how it is done here:

* the order: the supplementary groups, the group, the user; afterwards none of them could be changed any more;
* all three ids, real, effective and saved: who keeps one of them can go back to it;
* capabilities go with user 0, but not with another user who had some: they are given up by name, in all sets;
* that it cannot be undone is *tried*, not assumed;
* the kernel forgets with the change who is to hear of our parent's end (PR_SET_PDEATHSIG), and that processes of the
  same user may look at us (PR_SET_DUMPABLE): `paceline ctl` of that user reads our scoreboard.  Both are put back.

Only for a process with one thread: capabilities belong to threads.
"""

import ctypes
import grp
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from paceline.errors import HostError, SettingError
from paceline.host import processes
from paceline.host.unix_paths import FileRights
from paceline.settings.rights import is_number
from paceline.settings.values import near

ROOT = 0
_CAP_SETGID, _CAP_SETUID = 6, 7  # linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522
_PR_GET_PDEATHSIG, _PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 2, 3, 4  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4


# Users and groups


@dataclass(frozen=True, slots=True)
class Account:
    """Whom a process may belong to."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    """The supplementary ones, sorted; the kernel does not mind whether `gid` is among them."""
    name: str = ""
    """Nothing: nobody knows a user of this number."""
    home: str = "/"

    @property
    def text(self) -> str:
        """For people: `www-data (uid 33, gid 33)`."""
        return f"{self.name} (uid {self.uid}, gid {self.gid})" if self.name else f"uid {self.uid}, gid {self.gid}"

    def variables(self) -> dict[str, str]:
        """What stands in the environment of this user's processes; USER and LOGNAME only where there is a name."""
        return {"HOME": self.home, **({"USER": self.name, "LOGNAME": self.name} if self.name else {})}


class NoAccountError(Exception):
    """There is none: of which setting (`user`, `group`), what its value must be, and the nearest right one."""

    def __init__(self, setting: str, rule: str, nearest: str = "") -> None:
        super().__init__(setting, rule, nearest)
        self.setting = setting
        self.rule = rule
        self.nearest = nearest

    def __str__(self) -> str:
        return f"must be {self.rule}" + (f"; did you mean {self.nearest}?" if self.nearest else "")


def account(user: str | None, group: str | None) -> Account:
    """The account of these, each a name or a number, as chown(1) reads them; None: as it is, or as the other one says.

    Raises NoAccountError.
    """
    uids, gids = os.getresuid(), os.getresgid()
    entry = _user(user) if user is not None else _user_of(uids[0])
    uid = uids[0] if user is None else entry.pw_uid if entry is not None else int(user)
    if group is not None:
        gid = _group(group)
    elif user is None or uids == (uid,) * 3:  # it is that user: it keeps the group that it has
        return Account(uid, gids[0], tuple(sorted(os.getgroups())), *_named(entry))
    elif entry is None:
        raise NoAccountError("user", "a user that is known here, or have --group beside it: a number has no group")
    else:
        gid = entry.pw_gid
    groups = os.getgrouplist(entry.pw_name, gid) if entry is not None else [gid]
    return Account(uid, gid, tuple(sorted(set(groups))), *_named(entry))


def _named(entry: pwd.struct_passwd | None) -> tuple[str, str]:
    return (entry.pw_name, entry.pw_dir or "/") if entry is not None else ("", "/")


def _user(text: str) -> pwd.struct_passwd | None:
    """None: there is none of this number.  Raises NoAccountError."""
    try:
        return pwd.getpwnam(text)
    except KeyError:
        if is_number(text):
            return _user_of(int(text))
    nearest = near(text, (entry.pw_name for entry in pwd.getpwall()))
    raise NoAccountError("user", "a user of this machine, and there is none of that name", nearest)


def _user_of(uid: int) -> pwd.struct_passwd | None:
    with suppress(KeyError):
        return pwd.getpwuid(uid)
    return None


def _group(text: str) -> int:
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        if is_number(text):
            return int(text)
    nearest = near(text, (entry.gr_name for entry in grp.getgrall()))
    raise NoAccountError("group", "a group of this machine, and there is none of that name", nearest)


def owner(text: str | None) -> tuple[int, int]:
    """(user, group) of `USER`, `USER:GROUP` or `:GROUP`; -1: it stays who it is (chown(2)).  Raises NoAccountError."""
    user, _, group = (text or "").partition(":")
    entry = _user(user) if user else None
    uid = -1 if not user else int(user) if entry is None else entry.pw_uid
    return uid, _group(group) if group else -1


def file_rights(mode: str | None, owned_by: str | None) -> FileRights:
    """Of the settings `socket_mode` and `socket_owner`.  Raises SettingError when there is no such user or group."""
    try:
        uid, gid = owner(owned_by)
    except NoAccountError as wrong:  # it was there when the settings were checked, if they were
        raise SettingError(f"socket_owner {owned_by!r}: {wrong}") from None
    return FileRights(None if mode is None else int(mode, 8), uid, gid, owned_by or "")


# The kernel's verbs


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def _prctl(option: int, *arguments: int) -> int:
    result: int = processes.prctl(option, *(*arguments, 0, 0, 0, 0)[:4])
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Kernel:
    """What `become` asks of it; tests replace it."""

    setgroups = staticmethod(os.setgroups)
    setresgid = staticmethod(os.setresgid)
    setresuid = staticmethod(os.setresuid)
    getgroups = staticmethod(os.getgroups)
    getresgid = staticmethod(os.getresgid)
    getresuid = staticmethod(os.getresuid)
    getppid = staticmethod(os.getppid)

    def capabilities(self) -> int:
        """Those in effect, as bits (CapEff of proc_pid_status(5)); where there is no /proc, root has all."""
        return _capabilities(b"CapEff:")

    def permitted(self) -> int:
        """Those that can be put into effect."""
        return _capabilities(b"CapPrm:")

    def drop_capabilities(self) -> None:
        """All, from all sets of this thread but the bounding one.  Raises OSError."""
        libc = ctypes.CDLL(None, use_errno=True)
        none = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice 32 bits (capset(2))
        if libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), none) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        with suppress(OSError):  # Linux before 4.3 has no ambient ones
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)

    def forbid_new(self) -> None:
        """No exec of this process and its descendants gains rights any more (PR_SET_NO_NEW_PRIVS).  Raises OSError."""
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)

    def is_dumpable(self) -> bool:
        return _prctl(_PR_GET_DUMPABLE) == 1

    def set_dumpable(self) -> None:
        _prctl(_PR_SET_DUMPABLE, 1)

    def death_signal(self) -> int:
        """What we are sent when our parent ends; 0: nothing."""
        number = ctypes.c_int()
        _prctl(_PR_GET_PDEATHSIG, ctypes.addressof(number))
        return number.value

    def die_with_parent(self, parent: int, number: int) -> None:
        if not processes.die_with_parent(parent, number):
            os.kill(os.getpid(), number)


def _capabilities(row: bytes) -> int:
    with suppress(OSError, ValueError, IndexError), open("/proc/self/status", "rb") as lines:
        return next(int(line.split()[1], 16) for line in lines if line.startswith(row))
    return -1 if os.geteuid() == ROOT else 0


KERNEL = Kernel()


# Becoming somebody else


def is_ours(who: Account, kernel: Kernel = KERNEL) -> bool:
    """This process belongs to it already, by all its ids, and can do nothing that a user cannot."""
    return _has_ids(who, kernel) and (who.uid == ROOT or not kernel.permitted())


def _has_ids(who: Account, kernel: Kernel) -> bool:
    return kernel.getresuid() == (who.uid,) * 3 and kernel.getresgid() == (who.gid,) * 3


def _groups_stay(who: Account, kernel: Kernel) -> bool:
    """The ids are right, and we may not change the groups: they are what whoever started us has chosen."""
    return _has_ids(who, kernel) and not kernel.capabilities() >> _CAP_SETGID & 1


def why_not(who: Account, kernel: Kernel = KERNEL) -> str:
    """What is missing to become it, with the remedy; empty: nothing is."""
    has = kernel.capabilities()
    needed = [] if _has_ids(who, kernel) else [("CAP_SETGID", _CAP_SETGID)]
    if kernel.getresuid() != (who.uid,) * 3:
        needed.append(("CAP_SETUID", _CAP_SETUID))
    missing = [name for name, bit in needed if not has >> bit & 1]
    if not missing:
        return ""
    return (
        f"only root may become another user, and this is uid {kernel.getresuid()[1]}, without {' and '.join(missing)}; "
        f"start as root, or as {who.text} at once, or leave --user and --group out"
    )


def become(who: Account, kernel: Kernel = KERNEL) -> None:
    """Be it from now on, with nothing left of what we were, and see that there is no way back.

    Raises HostError; then this process may be half of each, and must end.
    """
    parent, death, dumpable = kernel.getppid(), kernel.death_signal(), kernel.is_dumpable()
    groups_stay = _groups_stay(who, kernel)
    try:
        if not groups_stay:
            kernel.setgroups(list(who.groups))
        if not _has_ids(who, kernel):
            kernel.setresgid(who.gid, who.gid, who.gid)
            kernel.setresuid(who.uid, who.uid, who.uid)
        if who.uid != ROOT:
            kernel.drop_capabilities()
    except OSError as error:
        raise HostError(
            f"cannot become {who.text}: {error.strerror}; in a container, its user namespace must know these numbers "
            f"(user_namespaces(7)) and the capabilities SETUID and SETGID must be given"
        ) from error
    ways = list(_ways_back(who, kernel, groups_stay=groups_stay))
    if ways:
        raise HostError(f"became {who.text}, but {' and '.join(ways)}: this system does not let rights be given up")
    if dumpable:
        kernel.set_dumpable()
    if death:
        kernel.die_with_parent(parent, death)


def _ways_back(who: Account, kernel: Kernel, *, groups_stay: bool) -> Iterator[str]:
    if kernel.getresuid() != (who.uid,) * 3 or kernel.getresgid() != (who.gid,) * 3:
        yield "its ids are others"
    if not groups_stay and {*kernel.getgroups()} - {who.gid} != {*who.groups} - {who.gid}:
        yield "its groups are others"
    if who.uid == ROOT:
        return
    tries: list[tuple[str, Callable[[], None]]] = [
        ("user 0 could be had again", lambda: kernel.setresuid(ROOT, ROOT, ROOT)),
        ("any group could be had", lambda: kernel.setgroups([*who.groups, ROOT])),
    ]
    if who.gid != ROOT:
        tries.append(("group 0 could be had again", lambda: kernel.setresgid(ROOT, ROOT, ROOT)))
    for way, attempt in tries:
        with suppress(PermissionError):
            attempt()
            yield way


_WELL = "all is well"


def rehearse(who: Account, needed: Sequence[str]) -> str:
    """Become it in a child, and see there whether that user may read these folders and files; empty: all is well.

    So whatever is in the way is known before anything is opened, and this process has not changed.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = processes.fork()
    if pid == 0:
        try:
            become(who)
            hidden = [path for path in needed if not os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))]
            text = f"{who.text} cannot read {hidden[0]}" if hidden else _WELL
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent shall hear it
            text = str(error) or repr(error)
        try:
            os.write(writer, text.encode()[:4096])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read().decode(errors="replace")
    processes.reap_soon(pid)
    if not text:
        return f"whether this process can become {who.text} was tried in another one, and that was ended from outside"
    return "" if text == _WELL else text


def forbid_new(kernel: Kernel = KERNEL) -> None:
    """Neither this process nor what it starts gains rights by an exec any more.  Raises HostError."""
    try:
        kernel.forbid_new()
    except OSError as error:
        raise HostError(
            f"--no-new-privs on: the kernel refuses it ({error.strerror}); Linux must be 3.5 or newer, or turn it off"
        ) from error


def may_remove(path: str) -> bool:
    """Whether this process may unlink the file: the folder is writable, and if it is sticky one of the two is ours."""
    folder = os.path.dirname(path) or "."
    try:
        above, found = os.stat(folder), os.lstat(path)
    except OSError:
        return False
    is_sticky = bool(above.st_mode & 0o1000)
    return os.access(folder, os.W_OK | os.X_OK) and (not is_sticky or os.geteuid() in (0, above.st_uid, found.st_uid))
