"""Start children, listen to their pulse, restart the dead and the silent, stop warm."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from controlplane.supervisor import lifeline, pulse

FIRST_REST_SECONDS: Final = 0.25
LONGEST_REST_SECONDS: Final = 5.0
# After this long it counts as healthy, and the next death is a new story.
HEALTHY_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.5
STANDSTILL_SECONDS: Final = 5.0

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of child. `run` is called in it and returns when told to stop by SIGTERM."""

    name: str
    run: Callable[[], None]
    silent_seconds: float = 30.0
    start_seconds: float = 60.0


@dataclass(slots=True)
class Child:
    role: Role
    pid: int = 0
    pulse_fd: int = -1
    started_at: float = 0.0
    heard_at: float | None = None
    restart_at: float = 0.0
    deaths: int = 0

    @property
    def is_running(self) -> bool:
        return self.pid != 0

    def silent_for(self, now: float) -> float:
        return now - (self.started_at if self.heard_at is None else self.heard_at)

    def is_silent(self, now: float) -> bool:
        limit = self.role.start_seconds if self.heard_at is None else self.role.silent_seconds
        return self.silent_for(now) > limit


@dataclass(slots=True)
class Supervisor:
    """`run` returns the exit code: 0 after a stop, 1 when a child could not even start.

    `on_ready` is called once, when every child has been heard; `on_stop` when stopping begins.
    A stop by SIGTERM or SIGHUP gives children `grace_seconds`, one by Ctrl-C `hasty_seconds`; a
    second signal ends them at once.
    """

    roles: Sequence[Role]
    say: Callable[[str], None]
    on_ready: Callable[[], None]
    on_stop: Callable[[], None] = lambda: None
    grace_seconds: float = 30.0
    hasty_seconds: float = 5.0
    _children: list[Child] = field(default_factory=list)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _wakeup: tuple[socket.socket, socket.socket] | None = None
    _signals: list[int] = field(default_factory=list)
    _is_ready: bool = False
    _stop_at: float | None = None
    _exit_code: int = 0

    def run(self) -> int:
        # What is loaded stays: without this the collector touches every page that children
        # share with us, and each gets a copy of its own.
        gc.collect()
        gc.freeze()
        self._children = [Child(role) for role in self.roles]
        with self._signals_caught():
            for child in self._children:
                self._start(child)
            looked_at = time.monotonic()
            while self._stop_at is None or any(child.is_running for child in self._children):
                self._listen()
                now = time.monotonic()
                self._excuse(now, looked_at)
                looked_at = now
                self._obey()
                self._bury()
                self._look(now)
        return self._exit_code

    # --- Listening -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals_caught(self) -> Iterator[None]:
        """Signals wake the loop through a socket; nothing runs inside a handler."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._wakeup = (ours, theirs)
        self._selector.register(ours, selectors.EVENT_READ)
        caught = (*STOP_SIGNALS, signal.SIGCHLD)
        before = {number: signal.signal(number, self._note) for number in caught}
        fd_before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(fd_before)
            for number, action in before.items():
                signal.signal(number, action)
            self._selector.close()
            ours.close()
            theirs.close()

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _listen(self) -> None:
        for key, _ in self._selector.select(LOOK_SECONDS):
            if isinstance(key.data, Child):
                with contextlib.suppress(BlockingIOError):
                    if os.read(key.fd, 4096):
                        key.data.heard_at = time.monotonic()
                    else:
                        self._hang_up(key.data)
            elif isinstance(key.fileobj, socket.socket):
                with contextlib.suppress(BlockingIOError):
                    key.fileobj.recv(4096)

    def _excuse(self, now: float, looked_at: float) -> None:
        """After we stood still ourselves (a paused machine, a debugger) children, which may have
        stood still with us, get their full time again."""
        if now - looked_at > STANDSTILL_SECONDS:
            for child in self._children:
                if child.heard_at is not None:
                    child.heard_at = now

    def _obey(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if self._stop_at is not None:
                self._stop_at = time.monotonic()
            elif number == signal.SIGINT:
                self._tell("Stopping. Ctrl-C again ends open requests at once.")
                self._stop(self.hasty_seconds)
            else:
                self._tell("Stopping: open requests may finish.")
                self._stop(self.grace_seconds)

    def _tell(self, sentence: str) -> None:
        # The reader of our output may be gone; children need us all the same.
        with contextlib.suppress(OSError):
            self.say(sentence)

    # --- Looking after children ------------------------------------------------------------------

    def _look(self, now: float) -> None:
        if self._stop_at is not None:
            if now >= self._stop_at:
                for child in self._children:
                    self._kill(child)
            return
        for child in self._children:
            if not child.is_running:
                if now >= child.restart_at:
                    self._start(child)
            elif child.is_silent(now):
                self._tell(f"The {child.role.name} is silent for {child.silent_for(now):.0f} s.")
                self._kill(child)
                # Said once; its death is noticed when it comes.
                child.heard_at = now
        if not self._is_ready and all(child.heard_at is not None for child in self._children):
            self._is_ready = True
            with contextlib.suppress(OSError):
                self.on_ready()

    def _bury(self) -> None:
        """Reap whoever died: ours, and as process 1 of a container also adopted ones."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for child in self._children:
                if child.pid == pid:
                    self._died(child, os.waitstatus_to_exitcode(status))

    def _died(self, child: Child, code: int) -> None:
        now = time.monotonic()
        # What it started itself (pool processes) shares its group and goes with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        self._hang_up(child)
        child.pid = 0
        if self._stop_at is not None:
            return
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        if not self._is_ready and child.heard_at is None:
            self._tell(f"The {child.role.name} did not start ({how}): the lines above say why.")
            self._exit_code = 1
            self._stop(self.hasty_seconds)
            return
        if now - child.started_at >= HEALTHY_SECONDS:
            child.deaths = 0
        rest = min(LONGEST_REST_SECONDS, FIRST_REST_SECONDS * 2.0 ** min(child.deaths, 16))
        child.deaths += 1
        child.restart_at = now + rest
        self._tell(f"The {child.role.name} stopped ({how}). It starts again in {rest:.2g} s.")

    def _stop(self, seconds: float) -> None:
        self._stop_at = time.monotonic() + seconds
        self.on_stop()
        for child in self._children:
            if child.is_running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    def _kill(self, child: Child) -> None:
        if child.is_running:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)

    def _hang_up(self, child: Child) -> None:
        if child.pulse_fd >= 0:
            self._selector.unregister(child.pulse_fd)
            os.close(child.pulse_fd)
            child.pulse_fd = -1

    # --- Forking ---------------------------------------------------------------------------------

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._become(child.role, parent=parent, pulse_fd=writing)
        os.close(writing)
        # In both, because neither may be relied upon to be first.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        os.set_blocking(reading, False)
        self._selector.register(reading, selectors.EVENT_READ, child)
        child.pid, child.pulse_fd = pid, reading
        child.started_at, child.heard_at = time.monotonic(), None

    def _become(self, role: Role, *, parent: int, pulse_fd: int) -> NoReturn:
        """The rest of the child's life. Never returns into the supervisor's code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*STOP_SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # A group of its own: Ctrl-C in the terminal reaches the supervisor alone, and the
            # child with all it starts can be ended by one kill.
            os.setpgid(0, 0)
            lifeline.die_with(parent)
            lifeline.name_process(f"pcp-{role.name}")
            self._let_go()
            pulse.write_to(pulse_fd)
            role.run()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        except BaseException:  # noqa: BLE001  (printed, and the process ends)
            traceback.print_exc()
        finally:
            logging.shutdown()
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit: what the supervisor registered for its own end is not ours to run.
            os._exit(code)

    def _let_go(self) -> None:
        """Close the supervisor's ends: as long as a sibling holds one, a pipe never breaks."""
        for child in self._children:
            if child.pulse_fd >= 0:
                os.close(child.pulse_fd)
        self._selector.close()
        for end in self._wakeup or ():
            end.close()
