"""The command line by which Ray starts its raylet, where it stands how that starts the agents of its node."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from secirls.carriers.lean_ray import idle_agent

AGENTS = {
    "dashboard_agent_command": ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"),
    "runtime_env_agent_command": ("runtime_env_agent_port",),
}
"""Agents, and the ports that a raylet waits to hear of: one answers a dashboard, the other installs what workers of a
job are said to need beside their code."""


def with_idle_agents(command: Sequence[str]) -> list[str]:
    """A raylet's command, with somebody in its agents' places whom nothing needs to be loaded for."""
    told = dict(word.removeprefix("--").split("=", 1) for word in command if "=" in word)
    alone = [sys.executable, "-I", "-S", idle_agent.__file__]  # without what is installed Python starts at once
    idle = {
        f"--{agent}": subprocess.list2cmdline([*alone, told["session_dir"], told["node_id"], *ports])
        for agent, ports in AGENTS.items()
    }
    names = [word.partition("=")[0] for word in command]
    return [f"{name}={idle[name]}" if name in idle else word for name, word in zip(names, command, strict=True)]
