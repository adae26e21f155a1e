"""The sharp tools: ring arithmetic, keys, secret sharing. Used by the protocols, not by the statistics."""
