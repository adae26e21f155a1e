"""Sites, and helpers, on grounds of their own, with one roster and certificates for a hub, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.secure_sum import RESERVED
from secirls.carriers.certificates import certificates
from secirls.site.grounds.ground import template
from secirls.site.grounds.helper_ground import helper_template
from secirls.site.grounds.key_files import make_roster, new_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def make_grounds(folder: Path, data: Mapping[str, Path | None], rules: str = "", hub: str = "localhost") -> None:
    """A folder per party with its key and ``site.toml``, one roster, and a folder of certificates.

    ``data`` has the sites' files, and nothing for a helper; ``rules`` are lines of their policies.
    """
    publics = []
    for name in data:
        (folder / name).mkdir()
        publics.append(new_key(name, folder / name)[1])
    (folder / "roster.json").write_text(make_roster(publics).to_json())
    for name, file in data.items():
        told = name, f"{name}.key", "../roster.json"
        text = helper_template(*told) if name in RESERVED else template(name, str(file), *told[1:]) + rules
        (folder / name / "site.toml").write_text(text)
    certificates(folder / "certs", {"hub": [hub], **{name: ["localhost"] for name in data}})
