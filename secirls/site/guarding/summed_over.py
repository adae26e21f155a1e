"""Over how many sites each gene was in a sum: a question that is asked anew over fewer would tell, by the difference.

Promises: a gene is known by every kind of question that it was in. Refuses to know: what was answered.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from protocols.secure_sum import PartyId
from secirls.algorithms.query import Query


class SummedOver:
    """Over how many sites a gene was in a sum, by kind of question: over fewer later, most are the same.

    Questions at which sites may fall silent are not looked at: what these tell of one, its policy permitted.
    """

    def __init__(self) -> None:
        self._most: dict[str, NDArray[np.intp]] = {}

    def take(self, asked: Query, parties: Collection[PartyId]) -> None:
        """Note who is in a total."""
        if asked.values_per_gene and not asked.may_shrink:
            most = self._most.setdefault(asked.kind, np.zeros(asked.genes.size, dtype=np.intp))
            most[asked.genes] = np.maximum(most[asked.genes], len(parties))

    def more(self, asked: Query, cohort: Collection[PartyId]) -> bool:
        """Whether a gene was in a sum of this kind over more sites than a cohort is."""
        most = self._most.get(asked.kind)
        return most is not None and bool((most[asked.genes] > len(cohort)).any())
