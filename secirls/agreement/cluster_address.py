"""Which existing Ray cluster is meant, if any. Refuses to know: Ray itself."""

from __future__ import annotations

import os


def cluster_at(address: str | None) -> str | None:
    """The existing cluster that an address names: nothing, blanks and ``local`` name none, as Ray takes them."""
    named = (address or "").strip()
    return None if named in {"", "local"} else named


def cluster_of_the_job() -> str | None:
    """The cluster of the Ray job that this process is, if it is one."""
    return cluster_at(os.environ.get("RAY_ADDRESS"))
