"""Paillier's arithmetic: keys, whole or in shares, their primes, obfuscators, and proofs about ciphertexts."""
