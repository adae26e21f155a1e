"""Network namespaces of one machine, each behind a link of its own, for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from contextlib import contextmanager

import pytest

HEAD = "10.77.0.1"
"""The address of the head's namespace; the sites' are those after it."""


def ip(*words):
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


def within(space):
    return ["ip", "netns", "exec", space]


def shaped(space, word):
    """Words that slow a site's link down, or no longer."""
    rate = ["tbf", "rate", "2mbit", "burst", "32kb", "latency", "400ms"] if word == "add" else []
    return [*within(space), "tc", "qdisc", word, "dev", "eth0", "root", *rate]


@contextmanager
def spaces(sites):
    """A namespace for the head, with a bridge inside, and one per site; gives names to namespaces.

    Skips the test where the system does not allow that.
    """
    tag = f"s{secrets.token_hex(2)}"
    named = {name: f"{tag}-{name}" for name in ("head", *sites)}
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
        pytest.skip("network namespaces need root and iproute2, which are not here")
    made = []
    try:
        try:
            for space in named.values():
                ip("netns", "add", space)
                made.append(space)
                ip("-n", space, "link", "set", "lo", "up")
            head = named["head"]
            ip("-n", head, "link", "add", "br0", "type", "bridge")
            ip("-n", head, "addr", "add", "10.77.0.1/24", "dev", "br0")
            ip("-n", head, "link", "set", "br0", "up")
            for number, name in enumerate(sites, 2):
                space = named[name]
                ip("link", "add", name, "netns", head, "type", "veth", "peer", "name", "eth0", "netns", space)
                ip("-n", head, "link", "set", name, "master", "br0")
                ip("-n", head, "link", "set", name, "up")
                ip("-n", space, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
                ip("-n", space, "link", "set", "eth0", "up")
                for word in ("add", "del"):
                    subprocess.run(shaped(space, word), capture_output=True, text=True, check=True)
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"network namespaces or slow links are not allowed here: {refused.stderr.strip()}")
        # No packet leaves by this route: Ray learns a machine's own address from where the route would begin.
        ip("-n", head, "route", "add", "default", "dev", "br0")
        for name in sites:
            ip("-n", named[name], "route", "add", "default", "via", "10.77.0.1")
        yield named
    finally:
        for space in made:
            for pid in ip("netns", "pids", space).split():
                os.kill(int(pid), 9)
            ip("netns", "del", space)
