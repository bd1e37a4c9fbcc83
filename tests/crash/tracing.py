"""A process stopped at each of its system calls below one folder: watched, killed, or failed.

Python's ctypes and ``ptrace(2)``, x86-64 Linux alone. ``strace -e inject`` counts each call of each
thread by itself and starts anew for every point; here all calls of all threads have one order, only
those below the folder count, and a point costs milliseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.crash import syscalls
from tests.crash.limits import at_most

LIMIT = 120
"""Seconds after which an operation that is traced counts as hung; most take a tenth of one."""

Fault = Literal["none", "kill", "fail", "fail-on"]
"""Watch; kill before the call; fail that call alone; fail it and all of its kind that follow."""

_TRACEME, _POKEUSER, _SYSCALL, _SETOPTIONS, _SYSCALL_INFO = 0, 6, 24, 0x4200, 0x420E
_OPTIONS = 0x00000001 | 0x00000008 | 0x00100000  # TRACESYSGOOD, TRACECLONE, EXITKILL
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ORIG_RAX, _RAX = 120, 80
_ENTRY, _EXIT = 1, 2
_WALL = 0x40000000
_AT_FDCWD = -100


def missing() -> str:
    """Why there can be no tracing on machines of this sort, or an empty string."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the crash points need Linux on x86-64 (ptrace)"
    return ""


def forbidden() -> str:
    """What keeps tracing from working on this very machine, or an empty string."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder).resolve() / "made"
        try:
            first = trace(made.mkdir, made.parent, fault="fail", due=_makes_folder)
            second = trace(made.mkdir, made.parent, fault="kill", due=_makes_folder)
        except OSError as error:
            return f"ptrace is forbidden here ({error}): allow it (SYS_PTRACE, seccomp, yama)"
        if not (first.hit and second.killed) or made.exists():
            return "ptrace does not work here: it neither failed nor stopped a call"
    return ""


def _makes_folder(call: Call) -> bool:
    return call.name == "mkdir"


class _Info(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One system call below the folder: its place in the order, and what it was about to do.

    ``heard`` is what the process had said by then; ``failed`` tells that it was in vain.
    """

    ordinal: int
    name: str
    kind: syscalls.Kind
    grows: bool
    path: str
    to: str = ""
    heard: frozenset[str] = frozenset()
    failed: bool = False

    def __str__(self) -> str:
        return f"#{self.ordinal} {self.name} {self.path} {self.to}".strip()


@dataclass(slots=True)
class Trace:
    """What happened: the calls in order, the one that was hit, and whether the child was killed."""

    calls: list[Call] = field(default_factory=list)
    hit: Call | None = None
    killed: bool = False


def trace(
    work: Callable[[], None],
    root: Path,
    *,
    fault: Fault = "none",
    due: Callable[[Call], bool] = lambda _: False,
    number: int = errno.EIO,
    heard: Callable[[], frozenset[str]] = frozenset,
    until: frozenset[str] = frozenset(),
    after: Callable[[Call], None] = lambda _: None,
) -> Trace:
    """Run ``work`` in a fork and do ``fault`` at the first call below ``root`` that is ``due``.

    ``number`` is the error that a failing call answers. ``heard`` is asked at every call for what
    the process has said; after a word of ``until`` nothing fails any more. ``after`` is told of
    each call that has succeeded, while its thread still stands. The caller must have no other
    children. Raises ``OSError`` where tracing is forbidden, and ``Hung`` after ``LIMIT`` seconds.
    """
    child = os.fork()
    if child == 0:
        _be_traced(work)
    with at_most(LIMIT, "an operation that was traced"), _ended(child):
        if not os.WIFSTOPPED(os.waitpid(child, 0)[1]):
            raise PermissionError(errno.EPERM, "a process may not ask to be traced")
        _ptrace(_SETOPTIONS, child, _OPTIONS)
        with _memory(child) as memory:
            run = _Tracer(child, str(root), memory, fault, due, number, heard, until, after)
            run.go()
    return run.trace


def _be_traced(work: Callable[[], None]) -> None:
    try:
        _ptrace(_TRACEME, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
    finally:
        os._exit(0)


@contextmanager
def _ended(child: int) -> Iterator[None]:
    """However the block ends, the child is gone and buried."""
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, _WALL)
        raise


@contextmanager
def _memory(child: int) -> Iterator[int]:
    handle = os.open(f"/proc/{child}/mem", os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


class _Tracer:
    def __init__(
        self,
        child: int,
        root: str,
        memory: int,
        fault: Fault,
        due: Callable[[Call], bool],
        number: int,
        heard: Callable[[], frozenset[str]],
        until: frozenset[str],
        after: Callable[[Call], None],
    ) -> None:
        self.trace = Trace()
        self._child = child
        self._root = root
        self._memory = memory
        self._fault = fault
        self._due = due
        self._number = number
        self._heard = heard
        self._until = until
        self._after = after
        self._inside: dict[int, Call] = {}

    def go(self) -> None:
        """Until the last thread is gone."""
        thread, resume = self._child, 0
        while True:
            _ptrace(_SYSCALL, thread, resume)
            while True:
                thread, status = os.waitpid(-1, _WALL)
                if os.WIFSTOPPED(status):
                    break
                if thread == self._child:
                    self.trace.killed = os.WIFSIGNALED(status)
                    return
            resume = self._stopped(thread, os.WSTOPSIG(status))

    def _stopped(self, thread: int, sign: int) -> int:
        """Deal with one stop; the signal to pass on."""
        if sign == _SYSCALL_STOP:
            info = _Info()
            _ptrace(_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.byref(info))
            if info.op == _ENTRY and info.number in syscalls.SHAPES:
                self._entered(thread, int(info.number), tuple(info.arguments))
            elif info.op == _EXIT and thread in self._inside:
                self._left(thread, ctypes.c_int64(info.number).value)
            return 0
        return 0 if sign in (signal.SIGTRAP, signal.SIGSTOP) else sign

    def _entered(self, thread: int, number: int, arguments: tuple[int, ...]) -> None:
        sort = syscalls.kind(number, arguments)
        paths = self._below(thread, number, arguments) if sort else []
        if sort is None or not paths:
            return
        ordinal, name = len(self.trace.calls) + 1, syscalls.SHAPES[number].name
        kind, grows = sort
        grows = grows and self._takes_room(number, arguments, paths[0])
        call = Call(ordinal, name, kind, grows, paths[0], "".join(paths[1:]), self._heard())
        self.trace.calls.append(call)
        self._inside[thread] = call
        if not self._strikes(call):
            return
        self.trace.hit = self.trace.hit or call
        if self._fault == "kill":
            os.kill(self._child, signal.SIGKILL)
        else:
            _ptrace(_POKEUSER, thread, _ORIG_RAX, -1)
            self._inside[thread] = replace(call, failed=True)

    def _takes_room(self, number: int, arguments: tuple[int, ...], path: str) -> bool:
        """False for what is done on a full disk as well: open what is there, or cut it short."""
        try:
            there = os.stat(f"{self._root}/{path}").st_size
        except OSError:
            return True
        if number in syscalls.TRUNCATES:
            return arguments[1] > there
        return number not in syscalls.OPENS

    def _left(self, thread: int, answer: int) -> None:
        call = self._inside.pop(thread)
        if call.failed:
            _ptrace(_POKEUSER, thread, _RAX, -self._number)
        done = replace(call, failed=call.failed or answer < 0)
        self.trace.calls[call.ordinal - 1] = done
        if not done.failed:
            self._after(done)

    def _strikes(self, call: Call) -> bool:
        if self._fault == "none" or call.heard & self._until:
            return False
        if self.trace.hit is None:
            return self._due(call)
        wanted = call.grows if self._number == errno.ENOSPC else call.kind != "lock"
        return self._fault == "fail-on" and wanted

    def _below(self, thread: int, number: int, arguments: tuple[int, ...]) -> list[str]:
        """Those of the call's files that lie below the root, relative to it."""
        shape = syscalls.SHAPES[number]
        found = [self._of_descriptor(thread, arguments[index]) for index in shape.fds]
        found += [
            self._of_path(thread, None if at is None else arguments[at], arguments[text])
            for at, text in shape.paths
        ]
        inside = [path for path in found if f"{path}/".startswith(f"{self._root}/")]
        return [path[len(self._root) + 1 :] for path in inside]

    def _of_descriptor(self, thread: int, descriptor: int) -> str:
        number = ctypes.c_int32(descriptor & 0xFFFFFFFF).value
        name = "cwd" if number == _AT_FDCWD else f"fd/{number}"
        try:
            return os.readlink(f"/proc/{thread}/{name}")
        except OSError:
            return ""

    def _of_path(self, thread: int, at: int | None, address: int) -> str:
        text = self._text(address)
        if text.startswith("/"):
            return text
        folder = self._of_descriptor(thread, _AT_FDCWD if at is None else at)
        return f"{folder}/{text}" if text else folder

    def _text(self, address: int) -> str:
        page = 4096 - address % 4096
        raw = os.pread(self._memory, page, address) if address else b""
        if b"\0" not in raw and raw:
            raw += os.pread(self._memory, 4096, address + page)
        return os.fsdecode(raw.split(b"\0", 1)[0])


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


def _ptrace(request: int, thread: int, address: int, data: object = 0) -> None:
    """One ptrace request; a thread that is gone meanwhile is no error."""
    at, value = (0, address) if request in (_SYSCALL, _SETOPTIONS) else (address, data)
    if isinstance(value, int):
        value = ctypes.c_void_p(value & 0xFFFFFFFFFFFFFFFF)
    if _libc.ptrace(request, thread, ctypes.c_void_p(at), value) < 0:
        number = ctypes.get_errno()
        if number != errno.ESRCH:
            raise OSError(number, os.strerror(number))
