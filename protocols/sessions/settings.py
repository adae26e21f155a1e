"""What all parties of a session must have set alike: one named value, bound into the session id."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal

from protocols.primitives.keystream import Prg
from protocols.secure_sum import MINIMUM_PARTIES, MisuseError, sha256

Obfuscation = Literal["djn", "short", "subgroup", "textbook"]

MOST_KEY_BITS = 15_360
"""As strong as a key of AES-256 (NIST SP 800-57 part 1), and found within minutes. Whoever sets a session up could have
a helper search for a longer one for days, and every site raise numbers of its length."""
_LEAST_KEY_BITS = 2048
_LEAST_TEST_KEY_BITS = 256


@dataclass(frozen=True)
class Settings:
    """Parameters of a session; each protocol reads those that concern it."""

    configuration: str = ""
    """Hexadecimal digest of whatever else the parties agreed on (the statistics' configuration)."""
    threshold: int | None = None
    """How many parties must answer for a sum to open; ``None`` means `threshold_for` their number."""
    prg: Prg = "aes-256-ctr"
    """Keystream generator of masks and shares."""
    rounds_per_batch: int = 32
    """Mask keys are agreed on for this many rounds at a time."""
    consistency: bool = False
    """Have the parties agree on who is present before shares are released (against an active aggregator)."""
    key_bits: int = 3072
    """Paillier modulus."""
    obfuscation: Obfuscation = "djn"
    """How Paillier ciphertexts are randomised; "subgroup" is also a kind of key, which decrypts faster."""
    insecure_test_keys: bool = False
    """Accept Paillier keys below 2048 bits, which protect nothing: for tests of this package alone."""
    neighbours: int | None = None
    """With how many others a party shares pairwise masks; ``None`` means all of up to 50 parties, and beyond as
    many as `protocols.masking.neighbours.default_degree` says."""
    allow_two: bool = False
    """Let two parties sum: each then learns the other's vector by subtraction."""

    @property
    def agreed(self) -> dict[str, object]:
        """What the parties' agreement names: every setting, and `neighbours` only where it is set."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("neighbours", None)}

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over what is agreed."""
        return sha256(b"secirls settings v1", json.dumps(self.agreed, sort_keys=True).encode())

    def threshold_for(self, parties: int) -> int:
        """The threshold among that many parties: as set, or just above two thirds of them.

        Raises `MisuseError` for a threshold that can't be met, or that would open a sum of so few that
        they don't hide each other.
        """
        least = 2 if self.allow_two else MINIMUM_PARTIES
        if parties < least:
            raise MisuseError(f"{parties} parties can't hide in a sum: at least {least} are needed")
        threshold = 2 * parties // 3 + 1 if self.threshold is None else self.threshold
        if not least <= threshold <= parties:
            raise MisuseError(f"threshold {threshold} is impossible: it must lie between {least} and {parties} parties")
        return threshold

    def check_key_bits(self) -> None:
        """Raise `MisuseError` for a Paillier modulus that is too short, too long or of no length that is packed."""
        least = _LEAST_TEST_KEY_BITS if self.insecure_test_keys else _LEAST_KEY_BITS
        if not least <= self.key_bits <= MOST_KEY_BITS or self.key_bits % 64:
            raise MisuseError(
                f"a Paillier key of {self.key_bits} bits: choose a multiple of 64 from {least} to {MOST_KEY_BITS}"
            )
