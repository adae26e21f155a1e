"""Texts that are read at once, gene names above all: the same digest as one by one, and no two lists alike."""

import pytest

from protocols.secure_sum import framed, framed_texts

LISTS = (
    (),
    ("",),
    ("gene1", "gene2", "gene10"),
    ("a", "", "", "bc"),
    ("ab", "c"),
    ("a", "bc"),
    ("é", "日本", "a" * 300, "\0"),
    ("x" * 70_000, "y"),
)


def joined(texts):
    """The twin that forgets where a text ends."""
    return "".join(texts).encode()


@pytest.mark.parametrize("texts", LISTS, ids=range(len(LISTS)))
def test_texts_are_framed_as_each_by_itself(texts):
    assert framed_texts(texts) == b"".join(framed(text.encode()) for text in texts)


def test_lists_that_read_alike_in_one_piece_are_told_apart():
    told = [framed_texts(texts) for texts in LISTS]
    assert len(set(told)) == len(LISTS)
    assert len(set(map(joined, LISTS))) < len(LISTS)


def test_halves_of_a_sign_are_refused_or_passed_as_it_is_asked():
    halves = ("\ud83d", "\ude00")
    with pytest.raises(UnicodeEncodeError):
        framed_texts(halves)
    passed = [framed(half.encode(errors="surrogatepass")) for half in halves]
    assert framed_texts(halves, errors="surrogatepass") == b"".join(passed)
