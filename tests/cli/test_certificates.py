"""Names and addresses that no certificate can have end in one sentence, before any file is written; an authority that
is there signs further machines, as long as it is valid itself."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from secirls.carriers import certificates as room
from secirls.carriers.certificates import certificates
from secirls.carriers.cluster import template
from secirls.config import Config
from secirls.input_error import InputError

WRONG = [
    ("../lyon", "10.0.0.2", "machine '../lyon': "),
    ("x" * 80, "10.0.0.2", "machine 'xxx"),
    ("ca", "10.0.0.2", "choose another name"),
    ("lyon", "h\u00f4pital.example", "machine 'lyon': of an address"),
]


@pytest.mark.parametrize(("machine", "address", "sentence"), WRONG)
def test_what_no_certificate_can_have_is_refused_and_nothing_is_written(tmp_path, machine, address, sentence):
    with pytest.raises(InputError, match=sentence):
        certificates(tmp_path / "certs", {"berlin": ["10.0.0.1"], machine: [address]})
    assert not list(tmp_path.iterdir())


def test_the_twin_that_checks_no_name_writes_beside_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_checked", room._names)
    certificates(tmp_path / "certs", {"../lyon": ["10.0.0.2"]})
    assert (tmp_path / "lyon.key").exists()


def test_addresses_by_number_and_by_name_are_taken(tmp_path):
    certificates(tmp_path, {"site-2.lyon": ["10.0.0.2", "fd00::2", "xn--hpital-k5a.example"]})
    assert {path.name for path in tmp_path.iterdir()} == {"ca.key", "ca.crt", "site-2.lyon.key", "site-2.lyon.crt"}


@pytest.mark.parametrize(
    "address", ["10.0.0.999", "10.0.0.1:6379", "10.0.0", "https://head", "head/24", "head node", "", "1.2.3.4."]
)
def test_what_is_neither_an_address_nor_a_name_is_refused_before_anything_is_written(tmp_path, address):
    """Taken for a name, it was told by a certificate that nobody's address is in, once Ray ran."""
    with pytest.raises(InputError, match=r"machine 'head': .* is neither an IP address nor a host's name"):
        certificates(tmp_path / "certs", {"head": [address]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("port", ["0", "65536", "99999", "x"])
def test_a_port_that_is_none_is_no_address_of_a_cluster(port):
    with pytest.raises(InputError, match="write HOST:PORT"):
        template(Config(design="~ x"), ("a", "b", "c"), {}, f"10.0.0.1:{port}")
    assert "10.0.0.1:65535" in template(Config(design="~ x"), ("a", "b", "c"), {}, "10.0.0.1:65535")


def read(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


@pytest.fixture
def certs(tmp_path):
    """A folder with an authority and two machines."""
    certificates(tmp_path / "certs", {"head": ["10.0.0.1"], "berlin": ["10.0.0.2"]})
    return tmp_path / "certs"


def test_a_machine_that_joins_later_is_signed_by_the_authority_that_is_there(certs, run):
    before = everything(certs)
    code, shown, error = run("cluster", "certs", "lyon=10.0.0.3", "--out", certs)
    assert (code, error) == (0, "")
    assert shown.splitlines()[:-1] == [str(certs / "lyon.key"), str(certs / "lyon.crt")]
    assert shown.splitlines()[-1].startswith("lyon: signed by the authority that was there, valid until 20")
    authority = read(certs / "ca.crt")
    for machine in ("head", "berlin", "lyon"):
        read(certs / f"{machine}.crt").verify_directly_issued_by(authority)
    assert before.items() <= everything(certs).items()
    assert everything(certs).keys() - before.keys() == {"lyon.key", "lyon.crt"}


def test_the_first_time_says_so_and_until_when(tmp_path, run):
    code, shown, _ = run("cluster", "certs", "head=10.0.0.1", "lyon=10.0.0.3", "--out", tmp_path / "certs")
    assert code == 0
    until = read(tmp_path / "certs" / "lyon.crt").not_valid_after_utc
    assert shown.splitlines()[-1] == f"head, lyon: signed by a new authority, valid until {until:%Y-%m-%d %H:%M} (UTC)"
    assert timedelta(days=89) < until - datetime.now(UTC) <= timedelta(days=90)


@pytest.mark.parametrize("twin", [False, True])
def test_no_certificate_outlives_its_authority(tmp_path, monkeypatch, twin):
    """The twin takes the later of two ends."""
    monkeypatch.setattr(room, "VALID_DAYS", 30)
    certificates(tmp_path, {"head": ["10.0.0.1"]})
    monkeypatch.setattr(room, "VALID_DAYS", 90)
    if twin:
        monkeypatch.setattr(room, "min", max, raising=False)
    told = certificates(tmp_path, {"lyon": ["10.0.0.3"]})
    ends = [read(tmp_path / f"{name}.crt").not_valid_after_utc for name in ("lyon", "ca")]
    assert told.until.replace(microsecond=0) == ends[0]
    assert (ends[0] > ends[1]) == twin


def over(folder):
    """Certificates of which the time is over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "VALID_DAYS", 0)
        certificates(folder, {"old": ["10.0.0.9"]})


def of_another(folder):
    certificates(folder / "other", {"head": ["10.0.0.1"]})
    return folder / "other"


def put(folder, name, text):
    (folder / name).write_text(text)


SPOILT = {
    "no key": (lambda certs: (certs / "ca.key").unlink(), "ca.key': is missing"),
    "no certificate": (lambda certs: (certs / "ca.crt").unlink(), "ca.crt': is missing"),
    "another's key": (
        lambda certs: (of_another(certs) / "ca.key").replace(certs / "ca.key"),
        "is not the key of ca.crt",
    ),
    "another's certificate": (
        lambda certs: (of_another(certs) / "ca.crt").replace(certs / "ca.crt"),
        "ca.key': is not the key of ca.crt",
    ),
    "a machine's certificate": (
        lambda certs: put(certs, "ca.crt", (certs / "head.crt").read_text()),
        "ca.crt': is no certificate of an authority",
    ),
    "nonsense": (lambda certs: put(certs, "ca.crt", "x"), "ca.crt': is no certificate of an authority"),
    "no private key": (lambda certs: put(certs, "ca.key", "x"), "ca.key': is no private key of an authority"),
    "a machine that is there": (lambda certs: put(certs, "lyon.crt", ""), "lyon.crt': is there already"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_what_can_not_sign_is_told_in_a_sentence_and_nothing_is_written(certs, run, spoil):
    change, sentence = SPOILT[spoil]
    change(certs)
    before = everything(certs)
    code, shown, error = run("cluster", "certs", "turin=10.0.0.4", "lyon=10.0.0.3", "--out", certs)
    assert (code, shown) == (2, "")
    assert error.count("\n") == 1
    assert sentence in error
    assert not (certs / "turin.key").exists()
    assert everything(certs) == before


def test_an_authority_whose_time_is_over_signs_no_more(tmp_path, run):
    over(tmp_path)
    code, _, error = run("cluster", "certs", "lyon=10.0.0.3", "--out", tmp_path)
    assert code == 2
    assert "ca.crt': is valid from 20" in error
    assert "--out names a new folder for a new authority" in error
    assert not (tmp_path / "lyon.key").exists()


def test_a_machine_that_is_named_twice_is_told(tmp_path, run):
    """The first one's addresses were in no certificate."""
    code, _, error = run("cluster", "certs", "head=10.0.0.1", "head=192.168.0.1", "--out", tmp_path / "certs")
    assert code == 2
    assert "there is a machine 'head' already" in error
    assert not (tmp_path / "certs").exists()
