"""One proof for many Paillier ciphertexts that their sender knows what is in every one of them.

Promises: who makes a proof knows all plaintexts, and the proof shows nothing of them; it stands for these very
ciphertexts under this very key, at one place, and is worth nothing anywhere else. Refuses to know: what a
plaintext packs, how obfuscators are drawn, and whether a plaintext is a sensible one.

*Statement.* ``f(m, r) = (1 + n)^m r^n mod n^2`` maps pairs of a plaintext and a unit modulo n one to one onto the
units modulo n^2 (P. Paillier 1999, lemma 1). The sender knows m_i and r_i with ``c_i = f(m_i, r_i)`` for every i.
With ``textbook`` obfuscation it drew r_i; with the others it drew a_i, and ``r_i = h^a_i mod n``, because
``h_s^a = (h^a)^n mod n^2``. So the statement is the same for all, and says nothing of the a_i, nor of r_i's group.

*Proof.* R. Cramer, I. Damgard, J. B. Nielsen (EUROCRYPT 2001), made non-interactive as A. Fiat and A. Shamir do, over a
random linear combination as in M. Bellare, J. Garay, T. Rabin (EUROCRYPT '98)::

    T   = f(x, s)                                   x modulo n and s a unit modulo n, the masks
    d   = SHA-256(statement, T);  e_1 .. e_N        16 bytes each of SHAKE-256(d)
    z_1 = x + sum e_i m_i mod n                     z_2 = s * product r_i^e_i mod n
    sent: d, z_1, z_2                               verified: f(z_1, z_2) * product c_i^-e_i, taken for T, gives d

*Soundness* needs no assumption on roots or orders, for f is a homomorphism with a gift: whoever sees y knows
(0, y mod n), the preimage of y^n. Suppose that for one T somebody can answer for several d. If their e lie
neither all in one hyperplane modulo p nor all in one modulo q, linear algebra over the integers gives preimages of
c_i^D and c_i^D' with gcd(D, D', n) = 1, and these and that of c_i^n one of c_i itself. Elements of order 2, or of any
other, are no exception: they have preimages like all. Otherwise what can be answered lies in a hyperplane modulo a
prime of more than 128 bits, which a fresh e hits with a chance of at most 2^-128: so much for every hash that a cheat
tries. It rests on n having no small factor; who made n otherwise can decrypt, and needs no false proof.

*Zero knowledge.* Given d, both answers are uniform whatever the witness is, but for 2^-128 in how the masks are
reduced, and T follows from them: a simulator draws d, z_1, z_2 and programs the hash. No response is an
integer that would have to drown an exponent. For one T and d a single answer in range is accepted, so that nobody can
turn one proof into another either (S. Faust, M. Kohlweiss, G. Marson, D. Venturi, INDOCRYPT 2012). All of this is in
the random-oracle model, and extraction rewinds: what it loses over many proofs at once is not bounded here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from protocols.primitives.keys import parts
from protocols.primitives.paillier.big_numbers import from_buffer, power, product_of_powers, to_buffer
from protocols.primitives.paillier.paillier_keys import SPARE_BYTES, PublicKey

WEIGHT_BYTES = 16
"""A ciphertext that its sender does not know passes with a chance of 2^-128."""
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Statement:
    """That the sender of these ciphertexts knows what is in them, at a place that both ends know."""

    public: PublicKey
    place: bytes
    ciphertexts: Sequence[int]
    """Above zero and below n^2; `verify` refuses what is no unit."""

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over everything that is stated."""
        data = to_buffer(self.ciphertexts, self.public.ciphertext_bytes)
        return hashlib.sha256(parts(b"secirls paillier known v1", self.place, self.public.to_bytes(), data)).digest()

    def challenge(self, commitment: int) -> bytes:
        """What the weights are expanded from, once T is fixed."""
        return hashlib.sha256(parts(self.digest, to_buffer([commitment], self.public.ciphertext_bytes))).digest()

    def weights(self, challenge: bytes) -> bytes:
        """One weight for every ciphertext, `WEIGHT_BYTES` each."""
        return hashlib.shake_256(challenge).digest(WEIGHT_BYTES * len(self.ciphertexts))


def proof_bytes(public: PublicKey) -> int:
    """Length of one proof, however many ciphertexts it is for."""
    return _DIGEST_BYTES + 2 * public.plaintext_bytes


def prove(statement: Statement, plaintexts: Sequence[int], root: Callable[[bytes, int], int], key: bytes) -> bytes:
    """Prove it, given the plaintexts and ``root``: of weights and their width, the product of ``r_i ** weight_i``.

    The masks are derived from a secret key of the sender's and the statement, so that one mask can't meet two
    challenges, and the same statement has one proof.
    """
    public, n = statement.public, statement.public.n
    x, s = _masks(statement, key)
    challenge = statement.challenge(public.nude(x) * power(s, n, public.n_squared) % public.n_squared)
    weights = statement.weights(challenge)
    combined = sum(m * e for m, e in zip(plaintexts, from_buffer(weights, WEIGHT_BYTES), strict=True))
    return challenge + to_buffer([(x + combined) % n, s * root(weights, WEIGHT_BYTES) % n], public.plaintext_bytes)


def _masks(statement: Statement, key: bytes) -> tuple[int, int]:
    n, width = statement.public.n, statement.public.plaintext_bytes + SPARE_BYTES
    drawn = hashlib.shake_256(parts(b"secirls paillier known mask v1", key, statement.digest)).digest(2 * width)
    x, s = from_buffer(drawn, width)
    return x % n, s % (n - 1) + 1


def verify(statement: Statement, proof: bytes | memoryview) -> None:
    """Raise `ValueError` unless the ciphertexts are units and whoever made the proof knows what is in them.

    One that shares a factor with n is taken for a unit where its weight is zero: a chance of 2^-128 for each try, as a
    false proof has.
    """
    public, square = statement.public, statement.public.n_squared
    if len(proof) != proof_bytes(public):
        raise ValueError(f"a proof of knowledge has {proof_bytes(public)} bytes, not {len(proof)}")
    challenge = bytes(proof[:_DIGEST_BYTES])
    plain, root = from_buffer(proof[_DIGEST_BYTES:], public.plaintext_bytes)
    product = product_of_powers(statement.ciphertexts, statement.weights(challenge), WEIGHT_BYTES, square)
    public.refuse_factor(product)
    commitment = public.nude(plain) * power(root, public.n, square) * power(product, -1, square) % square
    if not (plain < public.n and 0 < root < public.n and statement.challenge(commitment) == challenge):
        raise ValueError("does not prove knowledge of what is in its ciphertexts")
