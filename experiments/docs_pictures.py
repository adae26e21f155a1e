"""The pictures of `docs/pictures.md`, small, from the folder of a demo: ``python -m experiments.docs_pictures``.

Promises: the same folder gives the same bytes. Refuses to know: how the fit was run.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from secirls.outputs.page.report_page import read_album
from secirls.outputs.pictures.canvas import packed
from secirls.whole_file import write_whole

SYMBOLS = {
    "ENSG00000096060": "FKBP5",
    "ENSG00000101347": "SAMHD1",
    "ENSG00000109906": "ZBTB16",
    "ENSG00000120129": "DUSP1",
    "ENSG00000125148": "MT2A",
    "ENSG00000134686": "PHC2",
    "ENSG00000148175": "STOM",
    "ENSG00000152583": "SPARCL1",
    "ENSG00000162614": "NEXN",
    "ENSG00000162616": "DNAJB4",
    "ENSG00000178695": "KCTD12",
    "ENSG00000179094": "PER1",
    "ENSG00000189221": "MAOA",
    "ENSG00000196517": "SLC6A9",
}
"""Of the genes of airway with the smallest p-values, as Ensembl has them."""
DOTS = 90
"""To the inch: small enough for a page."""
COLOURS = 96


def draw(folder: Path, out: Path) -> list[Path]:
    """Write the pictures of a demo's folder as ``pictures-NAME.png``; gives their paths."""
    album, written = read_album(folder), []
    for name, picture in album.drawn(SYMBOLS).items():
        if name == "cost_by_round":
            continue
        image = Image.open(io.BytesIO(packed(picture(), "png", dots=DOTS))).convert("RGB")
        small = io.BytesIO()
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(small, "png", optimize=True)
        place = out / f"pictures-{name}.png"
        write_whole(place, small.getvalue())
        written.append(place)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m experiments.docs_pictures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("secirls-demo"), metavar="DIR", help="of the demo")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="where to (docs)")
    chosen = parser.parse_args()
    for file in draw(chosen.folder, chosen.out):
        print(file)
