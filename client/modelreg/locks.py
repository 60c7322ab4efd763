"""Files that one process at a time may have.

Locks belong to the open file, so they end with the process, however it ends. Where files cannot be locked (Windows,
some network file systems) everybody gets the file: there the registry and the SHA-256 are what is left to notice.
"""

import os
from pathlib import Path

from modelreg.errors import LocalError

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # names that can be guessed may be links that somebody else laid


def open_alone(path: Path, mode: int, busy: str) -> int:
    """A descriptor of the file, which is made if need be; nobody else has one until it is closed.

    Raises OSError if it cannot be opened, LocalError with the words of `busy` if another process has it.
    """
    flags = os.O_RDWR | os.O_CREAT | NO_LINK | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        descriptor = os.open(path, flags, mode)
        try:
            if not _is_locked(descriptor):
                raise LocalError(busy, hint="Wait until that one is done.")
            # Its last owner may have removed or renamed it between our opening and our locking it.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
