"""Ray ahead of a fit: started while data and libraries are still made ready.

For a process that is all ours, such as a command. Promises: nothing but Ray is loaded before Ray's own processes are on
their way. Refuses to know: what is fitted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from secirls.agreement.cluster_address import cluster_of_the_job
from secirls.carriers.own_process import loading
from secirls.carriers.ray_environment import prepare_local


def engine_ahead(engine: str) -> AbstractContextManager[None]:
    """A running Ray, if that is the engine, loaded by now; fits inside share it, and it ends while others go on."""
    if engine != "ray":
        return nullcontext()
    address = cluster_of_the_job()
    if address is None:
        prepare_local()
    with loading():
        from secirls.carriers.ray_connection import running_ray
    return running_ray(address, linger=True)
