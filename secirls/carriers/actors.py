"""The actors of a fit: a worker of Ray loads nothing else of secirls before they stand.

Refuses to know: Ray, who starts actors, and who asks them.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from secirls.carriers.own_process import Growth, keep_freed_memory, loading

if TYPE_CHECKING:
    from protocols.secure_sum import PartyId
    from secirls.aggregator.aggregator import Event
    from secirls.agreement.order import Task
    from secirls.carriers.ray_federation import Handle
    from secirls.site.helper import Helper
    from secirls.site.site import Site


Packed: TypeAlias = tuple[bytes, list[Any]]
"""What a `PartyActor` makes its party of, and the arrays in it, which Ray carries without copies."""


def packed(kind: type[Site | Helper], *arguments: Any) -> Packed:
    """A party to be unpacked by its actor in its own time, and not before that is there."""
    import numpy as np

    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps((kind, arguments), protocol=5, buffer_callback=buffers.append)
    return head, [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers]


class PartyActor:
    """A site or helper behind its desk, in a process of its own."""

    def __init__(self, party: Packed) -> None:
        """``party`` is `packed` by whoever starts it."""
        keep_freed_memory()
        with loading():
            from secirls.site.desk import Desk

            head, buffers = party
            kind, arguments = pickle.loads(head, buffers=buffers)  # noqa: S301 - as Ray itself takes what it is given
            self._desk = Desk(kind(*arguments))
        self._growth = Growth()

    def ready(self) -> None:
        """The process stands."""

    def ask(self, verb: str, *given: Any) -> Any:
        """Run one verb; see `Desk`."""
        self._growth.limit()
        return self._desk.ask(verb, *given)


class AggregatorActor:
    """Leads a fit from a process of its own and streams what the driver may see."""

    def __init__(self) -> None:
        keep_freed_memory()
        with loading():
            from secirls.aggregator.transcript import witnessed
            from secirls.carriers.ray_federation import RayFederation
        self._federation, self._witnessed = RayFederation, witnessed

    def ready(self) -> None:
        """The process stands."""

    def lead(self, task: Task, parties: dict[PartyId, Handle]) -> Iterator[Event]:
        """See `secirls.aggregator.aggregator.lead`."""
        from protocols.choice import helpers

        federation = self._federation(parties, helpers(task.config.protocol), task.config.deadline)
        yield from self._witnessed(task, federation)
