"""Names and addresses that no certificate can have end in one sentence, before any file is written."""

import pytest

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
