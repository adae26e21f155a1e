"""This process's connection to Ray: to a cluster that is there, or to a local one of its own.

Promises: a local Ray listens to this user alone and is gone when the last fit has left it.
Refuses to know: fits, sites.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from secirls.carriers.lean_ray.raylet_command import with_idle_agents
from secirls.carriers.ray_environment import folder_for_ray
from secirls.input_error import InputError

OBJECT_STORE_BYTES = 400_000_000

NONE_AHEAD = {"prestart_worker_first_driver": False}
"""Ray starts no process before there is an actor for it: where one of those died at once, `ray.init` would wait
without an end. An actor's process that dies so is missed after a minute, and started again."""

TRIED = ("2.60.",)
"""Releases of Ray that run without the processes that only watch it, and with idle agents; others start whole."""

_WATCHERS = ("start_api_server", "start_log_monitor", "start_monitor")
"""Of Ray's node: the server of its dashboard, who passes on what workers print, and who asks for more machines."""


class _Connection:
    """This process's connection to Ray, which fits in several threads share: the last to leave closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fits = 0

    def enter(self, address: str | None) -> bool:
        """Connect, or share the connection; whether it is ours, and so to be left."""
        with self._lock:
            if self._fits == 0:
                if ray.is_initialized():
                    return False
                try:
                    _connect(address)
                except BaseException:
                    with undisturbed():
                        ray.shutdown()
                    raise
            self._fits += 1
            return True

    def leave(self) -> None:
        """Close the connection if no other fit has it."""
        with self._lock:
            self._fits -= 1
            if self._fits == 0:
                with undisturbed():
                    ray.shutdown()

    def leave_behind(self) -> None:
        """As `leave`, in the background: whoever connects next waits for it, and so does the end of this process."""
        threading.Thread(target=self.leave).start()


_connection = _Connection()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C wait for the end of what is inside.

    It would not tidy up any sooner: Ray that is interrupted in its own end has the process exit with code 1, no word
    said and nothing written.
    """
    ours = threading.current_thread() is threading.main_thread()  # no other is interrupted
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if heard:
        raise KeyboardInterrupt


@contextmanager
def running_ray(address: str | None, *, linger: bool = False) -> Iterator[None]:
    """A running Ray: the one this process is connected to, the one at the address, or a local one of our own.

    One that may ``linger`` ends in the background, while results are written: for a process that is all ours.
    """
    ours = _connection.enter(address)
    try:
        yield
    finally:
        if ours and linger:
            _connection.leave_behind()
        elif ours:
            _connection.leave()


def _connect(address: str | None) -> None:
    if address is not None:
        from secirls.carriers.first_contact import check_contact  # a Ray of our own needs none, nor what TLS loads

        check_contact(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except AuthenticationError as error:
            raise InputError(f"no Ray cluster lets us in at {address!r}: {error.message}") from None
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"no Ray cluster lets us in at {address!r} ({type(error).__name__}); "
                "'secirls cluster template' prints the environment that it needs, its token among it"
            ) from None
        return
    try:
        with _lean():
            ray.init(
                address="local",
                num_cpus=os.cpu_count(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder_for_ray()),
                _system_config={**NONE_AHEAD},  # Ray writes more into it
            )
    except Exception as error:  # noqa: BLE001 - Ray has no kind of its own for a node that does not come up
        raise InputError(f"no Ray can be started on this machine ({error}); engine 'local' needs none") from None


@contextmanager
def _lean() -> Iterator[None]:
    """Let a Ray that is started have less to load: `ray.init` has no switch for any of this, and waits for all of it.

    It leaves out its watchers, three Pythons which no fit asks anything. It does not run without its agents, two more:
    in their places others stand idle, unless something outside has workers need more than code (a hook, `uv run`).
    """
    if not ray.__version__.startswith(TRIED):
        yield
        return
    from ray._private import node, ray_constants, services

    whole: Any = node.Node
    start: Any = services.start_ray_process

    def started(command: list[str], kind: str, *further: Any, **ways: Any) -> Any:
        return start(
            with_idle_agents(command) if kind == ray_constants.PROCESS_TYPE_RAYLET else command, kind, *further, **ways
        )

    needing = ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV or ray_constants.RAY_RUNTIME_ENV_HOOK in os.environ
    setattr(node, "Node", type("Node", (whole,), dict.fromkeys(_WATCHERS, _nothing)))  # noqa: B010 - typed as a class
    setattr(services, "start_ray_process", start if needing else started)  # noqa: B010
    try:
        yield
    finally:
        setattr(services, "start_ray_process", start)  # noqa: B010
        setattr(node, "Node", whole)  # noqa: B010


def _nothing(*_: Any, **__: Any) -> None:
    """Start none."""
