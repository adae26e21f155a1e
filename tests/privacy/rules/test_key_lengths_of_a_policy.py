"""A configuration announces short Paillier keys; a site's own policy says how short they may be."""

import pytest

from protocols.secure_sum import MisuseError

SHORT = {"key_bits": 256, "insecure_test_keys": True}


@pytest.mark.parametrize(("protocol", "helper"), [("paillier", "key-holder"), ("paillier-threshold", "key-dealer")])
@pytest.mark.parametrize("bits", [256, 512, 2048])
def test_keys_shorter_than_the_policy_are_refused_by_the_site(lay, lead, protocol, helper, bits):
    grounds = lay(beside=(helper,)).rule('protocols = ["paillier", "paillier-threshold"]')
    room = lead.room(grounds, protocol=protocol, **{**SHORT, "key_bits": bits}).survey()
    for name in room.names:
        with pytest.raises(MisuseError, match=f"{bits} bits is shorter than the 3072 demanded"):
            room.sites[name].join(room.agreement)


def test_without_the_rule_a_key_of_no_use_is_met_with(lay, lead):
    rules = 'protocols = ["paillier"]\nmin_key_bits = 0'
    room = lead.room(lay(beside=("key-holder",)).rule(rules), protocol="paillier", **SHORT).open()
    assert room.collector.session
