"""Make the world of a script worse: a full disk, and a user who is not root."""

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # what lets root read and write everywhere, see capabilities(7)
VERSION_3 = 0x20080522  # of capset(2)


def small_disk(size: int) -> Callable[[], object]:
    """Return a function that limits each file of this process to `size` bytes, as a full disk does."""

    def limit() -> None:
        """Limit; a write beyond the limit then raises an error instead of killing the process."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Respect file permissions within the block, even as root. Threads that start within it do so as well."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the upper 32 bits of each follow
    assert libc.capget(header, before) == 0, os.strerror(ctypes.get_errno())
    within = (ctypes.c_uint32 * 6)(*before)
    within[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    assert libc.capset(header, within) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0, os.strerror(ctypes.get_errno())
