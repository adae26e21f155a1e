"""Ctrl-C before a command runs: while its modules are read there is nothing to tidy up, and nothing to be told.

Promises: one sentence and the exit code 130, never a traceback of whatever was just being imported. Where interruptions
are ignored (``nohup``), they stay so. Loads nothing that Python's own start has not.
"""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""The exit code, as of a shell."""
SENTENCE = "interrupted; no results were written"


def end_at_once() -> None:
    """Let Ctrl-C end the process where it stands, until `raise_again`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Let Ctrl-C be Python's `KeyboardInterrupt`, as at first: what runs now tidies up after itself."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(*_: object) -> None:
    try:
        os.write(2, f"secirls: {SENTENCE}\n".encode())
    finally:
        os._exit(INTERRUPTED)
