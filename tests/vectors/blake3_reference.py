"""A second BLAKE3, slow and obvious, written from its paper (O'Connor, Aumasson, Neves, Wilcox-O'Hearn 2020).

Hash mode alone, 32 bytes of output. It imports nothing.
"""

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
WORD = 1 << 32


def rotated(word, bits):
    return (word >> bits | word << (32 - bits)) % WORD


def mix(state, at, x, y):
    a, b, c, d = at
    for extra, first, second in ((x, 16, 12), (y, 8, 7)):
        state[a] = (state[a] + state[b] + extra) % WORD
        state[d] = rotated(state[d] ^ state[a], first)
        state[c] = (state[c] + state[d]) % WORD
        state[b] = rotated(state[b] ^ state[c], second)


def compressed(chaining, block, counter, length, flags):
    """The first eight words of the output."""
    words = [int.from_bytes(block[4 * i : 4 * i + 4].ljust(4, b"\0"), "little") for i in range(16)]
    state = [*chaining, *IV[:4], counter % WORD, counter >> 32, length, flags]
    for _ in range(7):
        for place, at in enumerate((*COLUMNS, *DIAGONALS)):
            mix(state, at, words[2 * place], words[2 * place + 1])
        words = [words[i] for i in PERMUTATION]
    return [low ^ high for low, high in zip(state[:8], state[8:], strict=True)]


def chunk(data, counter, root):
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    chaining = IV
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        flags = CHUNK_START * (place == 0) | CHUNK_END * last | ROOT * (last and root)
        chaining = compressed(chaining, block, counter, len(block), flags)
    return chaining


def tree(data, counter, root):
    """The largest power of two of whole chunks, and one byte at least to its right, make the two branches."""
    if len(data) <= 1024:
        return chunk(data, counter, root)
    left = 1024 << ((len(data) - 1) // 1024).bit_length() - 1
    branches = [*tree(data[:left], counter, False), *tree(data[left:], counter + left // 1024, False)]
    return compressed(IV, b"".join(word.to_bytes(4, "little") for word in branches), 0, 64, PARENT | ROOT * root)


def blake3(data):
    return b"".join(word.to_bytes(4, "little") for word in tree(data, 0, True))
