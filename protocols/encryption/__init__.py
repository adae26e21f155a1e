"""Sums of Paillier ciphertexts, opened by a key-holder or by enough of the sites."""
