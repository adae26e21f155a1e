"""What is known of the airway data before they are read; `secirls.inputs.datasets` reads them."""

from __future__ import annotations

from typing import Final

AIRWAY_SHA256: Final = "277a1056fda83b97a5602c4ce1dc660ae1d65ca06121d896be789d56d6e0e5e5"
"""Of the decompressed table: genes x samples, comma-separated, one header line."""

AIRWAY_LEVELS: Final = {"condition": ("untrt", "trt")}

DONORS: Final = {
    "N61311": ("SRR1039508", "SRR1039509"),
    "N052611": ("SRR1039512", "SRR1039513"),
    "N080611": ("SRR1039516", "SRR1039517"),
    "N061011": ("SRR1039520", "SRR1039521"),
}
"""Cell line to its (untreated, dexamethasone) runs."""
