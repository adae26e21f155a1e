"""Several machines: what each declares, and the lines that start Ray on them.

Promises: every site is pinned to the one node that declares it. Refuses to know: Ray itself, and
whether the machines can be reached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote

from protocols.choice import helpers
from protocols.secure_sum import AGGREGATOR, PartyId
from secirls.agreement.order import resource_of
from secirls.config import Config
from secirls.input_error import InputError

_START = 'ray start --block --disable-usage-stats --include-log-monitor=false --temp-dir="$RAY_TMPDIR/ray"'
"""Whatever the first machine does, this one's logs stay on it, and Ray's files where its own environment says.

Ray's log monitor sends every line that a site writes to its terminal to the first machine, for any driver to hear. A
node that is told no folder takes the first machine's, and lets everybody write there.
"""

_BEFORE = """\
# On every machine, and where 'secirls fit' is started: the same Python and Ray,
# secirls installed, and these lines, with the machine's own name in the first.
MACHINE=head
mkdir -p $HOME/federation && chmod 700 $HOME/federation
export RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR=$HOME/federation
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/federation/token
export RAY_USE_TLS=1 RAY_TLS_CA_CERT=$HOME/federation/ca.crt
export RAY_TLS_SERVER_CERT=$HOME/federation/$MACHINE.crt
export RAY_TLS_SERVER_KEY=$HOME/federation/$MACHINE.key

# The folder is on a disk of the machine's own, for Ray lets all users write to
# its folder in it. 'secirls cluster certs' makes the certificates. One machine
# makes the token, and all have the same, of mode 0600:
#   python -c "import secrets; print(secrets.token_hex(32), end='')" > \\
#       $HOME/federation/token && chmod 600 $HOME/federation/token
# Each line below keeps running; end it with Ctrl-C. A Ray cluster is one trust
# domain: it separates machines, and does not protect a site from who runs it."""


_JOB = "ray job submit -- secirls fit $PWD/federation.toml --out $PWD/results    (needs secirls[jobs] there)"


def template(
    config: Config, sites: Sequence[PartyId], nodes: Mapping[PartyId, str], head: str, *, jobs: bool = False
) -> str:
    """Shell lines that start a Ray cluster for a federation, with ``head`` as HOST:PORT of its first machine.

    With ``jobs`` the cluster takes Ray jobs, from the first machine alone.
    """
    host, _, port = head.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"--address {head!r}: write HOST:PORT")
    dashboard = "--include-dashboard=true --dashboard-host=127.0.0.1" if jobs else "--include-dashboard=false"
    head_start = f"{_START} --head {dashboard} --node-ip-address={quote(host)} --port={port}"
    lines = [
        _BEFORE,
        "",
        "# The aggregator's machine: first",
        f"{head_start} {_declares(AGGREGATOR)}",
    ]
    join = f"{_START} --address={quote(head)}"
    for name in helpers(config.protocol):
        who = "run by somebody else than the aggregator, with a ground of its own"
        lines += ["", f"# The {name}'s machine: {who}", f"{join} {_declares(name)}"]
    for name in sites:
        lines += ["", f"# The machine of site {name}", f"{join} {_declares(resource_of(name, nodes))}"]
    lines += [
        "",
        "# Then, on the aggregator's machine",
        _JOB if jobs else f"secirls fit federation.toml --address {quote(head)}",
    ]
    return "\n".join(lines)


def _declares(resource: str) -> str:
    return "--resources=" + quote(f'{{"{resource}": 1}}')
