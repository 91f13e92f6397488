"""Words for what the machine says when it does not let us listen somewhere.  Used by listeners.py and unix_paths.py."""

import errno
import stat


def why_not(error: OSError) -> str:
    """The reason and the remedy, for the errors that any call may end with."""
    remedy = {
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
        errno.ENFILE: "raise the system's limit on open files (sysctl fs.file-max)",
        errno.ENOBUFS: "free some memory",
        errno.ENOMEM: "free some memory",
        errno.EACCES: "a security policy of this machine forbids it; ask who runs it",
        errno.EPERM: "a security policy of this machine forbids it; ask who runs it",
    }.get(error.errno or 0, "choose another address")
    return f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no number')}); {remedy}"


def sort_of_file(mode: int) -> str:
    """What a file is, by its st_mode (inode(7)): `a folder`."""
    for is_that, name in (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if is_that(mode):
            return name
    return "a descriptor of the kernel's own"
