"""Messages that are written where they are sent from, and vectors that are encoded there already.

Promises: a message never changes once it is signed, and is copied then only if arrays that lie in it are still held
elsewhere; a vector that was lent memory stands nowhere in clear once it is masked.
Refuses to know: what a protocol writes, and with which key it signs.
"""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np

from protocols.primitives import ring
from protocols.primitives.keys import SIGNATURE_BYTES, Secret
from protocols.secure_sum import Context, Vector


class Draft(Secret):
    """A message to be signed, whose body has so many bytes."""

    def __init__(self, length: int) -> None:
        self._message = io.BytesIO(bytes(length + SIGNATURE_BYTES))
        self._whole = self._message.getbuffer()
        self.body = self._whole[:length]

    def signed(self, signature: bytes) -> bytes:
        """The message, for good: with nobody left who could write into it, or else a copy. Ends the draft."""
        self._whole[-SIGNATURE_BYTES:] = signature
        for view in (self.body, self._whole):
            with suppress(BufferError):  # an array that somebody holds
                view.release()
        return self._message.getvalue()


class VectorDraft(Draft):
    """A draft for one sum, with the vector in front and so many bytes behind it."""

    def __init__(self, context: Context, behind: int) -> None:
        super().__init__(8 * context.values * context.limbs + behind)
        self.digest = context.digest
        self.vector = ring.over(self.body, context.values, context.limbs)

    def signed(self, signature: bytes) -> bytes:
        """The message: see `Draft.signed`."""
        del self.vector
        return super().signed(signature)


class Lender(Secret):
    """A party's memory for the vector that it is to send next."""

    def __init__(self) -> None:
        self._lent: VectorDraft | None = None

    def lend(self, context: Context, behind: int) -> Vector:
        """Memory for a vector of this context; the one lent before is let go."""
        self._lent = VectorDraft(context, behind)
        return self._lent.vector.astype(np.uint64, copy=False)

    def take(self, vector: Vector, context: Context, behind: int) -> VectorDraft:
        """The draft that the vector was written into, or a fresh one that it is copied into; each serves once.

        Who then keeps no hold of the vector spares the message a copy when it is signed.
        """
        lent, self._lent = self._lent, None
        if lent is not None and lent.vector is vector and lent.digest == context.digest:
            return lent
        draft = VectorDraft(context, behind)
        draft.vector[:] = vector
        return draft
