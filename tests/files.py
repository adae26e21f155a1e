"""Site files for tests, written once in a process however many tests begin with the same."""

from __future__ import annotations

import pickle
import warnings
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

PARTS = ("X", "obs", "var", "layers", "obsm", "varm", "uns")


def write(adata: AnnData, path: Path) -> None:
    """What ``adata.write_h5ad(path)`` writes, without its warnings: some tests repeat names on purpose."""
    parts = {name: getattr(adata, name) for name in PARTS}
    held = {name: part if name in PARTS[:3] else dict(part) for name, part in parts.items()}
    if adata.raw is not None:
        held["raw"] = {name: getattr(adata.raw, name) for name in ("X", "var")}
    path.write_bytes(_written(pickle.dumps(held)))


@lru_cache(maxsize=512)
def _written(held: bytes) -> bytes:
    import anndata

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "site.h5ad"
        anndata.AnnData(**pickle.loads(held)).write_h5ad(path)
        return path.read_bytes()
