"""The three files by which a party and a hub know each other: whoever can't be used is named in a sentence."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from secirls.carriers import certificates as making
from secirls.carriers.certificates import certificates
from secirls.carriers.hub.credentials import Credentials, shown_name
from secirls.input_error import InputError


@pytest.fixture
def folder(tmp_path):
    certificates(tmp_path, {"berlin": ["localhost"], "lyon": ["localhost"]})
    return tmp_path


def test_a_certificate_says_to_whom_it_was_given(folder):
    assert Credentials.read(folder / "berlin.crt").name == "berlin"


def spoiled(folder, name, text):
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "berlin.crt").unlink(), r"berlin.crt': can't be read \(No such file"),
        (lambda folder: (folder / "berlin.key").unlink(), r"berlin.key': can't be read \(No such file"),
        (lambda folder: (folder / "ca.crt").unlink(), r"ca.crt': can't be read \(No such file"),
        (lambda folder: spoiled(folder, "berlin.crt", "no"), "berlin.crt': is no certificate that names"),
        (lambda folder: spoiled(folder, "ca.crt", "no"), "ca.crt': is no certificate of an authority"),
        (lambda folder: spoiled(folder, "berlin.key", "no"), "berlin.crt': is no certificate of the key in"),
        (lambda folder: shutil.copy(folder / "lyon.key", folder / "berlin.key"), "is no certificate of the key in"),
    ],
)
def test_a_file_that_can_t_be_used_is_named(folder, spoil, told):
    spoil(folder)
    with pytest.raises(InputError, match=told):
        Credentials.read(folder / "berlin.crt")


def test_a_key_is_no_certificate(folder):
    with pytest.raises(InputError, match=r"berlin.key': is no certificate: write one that ends in .crt"):
        Credentials.read(folder / "berlin.key")


@pytest.mark.parametrize("away", [-400, 400])
def test_a_certificate_of_another_time_is_not_shown(tmp_path, monkeypatch, away):
    then = datetime.now(UTC) + timedelta(days=away)
    with monkeypatch.context() as patch:
        patch.setattr(making, "datetime", type("Then", (), {"now": staticmethod(lambda _: then)}))
        certificates(tmp_path, {"berlin": ["localhost"]})
    with pytest.raises(InputError, match=r"berlin.crt': is valid from .* by the clock of this machine"):
        Credentials.read(tmp_path / "berlin.crt")


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (((("commonName", "a"),),), "a"),
        (((("organizationName", "o"),), (("commonName", "a"),)), "a"),
        (((("commonName", "a"),), (("commonName", "b"),)), ""),
        (((("organizationName", "a"),),), ""),
        ((), ""),
    ],
)
def test_whom_a_certificate_names_is_one_or_nobody(subject, name):
    assert shown_name({"subject": subject}) == name


def test_who_shows_none_is_nobody():
    assert shown_name(None) == shown_name({}) == ""
