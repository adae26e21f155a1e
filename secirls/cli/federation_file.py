"""The federation file, and what it says together with options of the command; options win."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from secirls.agreement.manifest import OWN_GROUND, Manifest
from secirls.config import OF_PROTOCOLS, Config
from secirls.input_error import InputError
from secirls.inputs.files.text_file import read_text, read_toml
from secirls.site.grounds.key_files import read_roster

OF_THE_COMMAND = ("annotation", "h5ad", "overwrite", "plots", "transcript")
"""Options that no federation file has; var columns of annotation stand under ``[fit]``."""


def pair(text: str, option: str, form: str) -> tuple[str, str]:
    """Both sides of NAME=VALUE. Raises `InputError` that shows the form."""
    name, sign, value = (part.strip() for part in text.partition("="))
    if not (name and sign and value):
        raise InputError(f"{option} {text!r}: write {form}")
    return name, value


def read_table(path: Path) -> dict[str, Any]:
    """What a federation.toml says, with site paths relative to it. Raises `InputError`."""
    where = f"file {str(path)!r}"
    if path.suffix in {".h5ad", ".zarr"}:
        raise InputError(f"{where}: is data, and no federation file: a site's data are given as --site NAME={path}")
    table = read_toml(path)
    calling = table.get("sites")
    if isinstance(calling, list) and all(isinstance(name, str) for name in calling):
        if table.get("engine", "hub") != "hub":
            raise InputError(f"{where}: sites: names without files are of the engine 'hub'")
        table |= {"sites": dict.fromkeys(calling, OWN_GROUND), "engine": "hub"}
    for name in ("sites", "fit"):
        if not isinstance(table.get(name), dict):
            raise InputError(f"{where}: needs a table [{name}]")
    named = {
        **{f"fit.{name}": name for name in table["fit"] if name not in Config.model_fields},
        **{n: n for n in table},
    }
    for field, name in named.items():
        if name in OF_THE_COMMAND:
            raise InputError(f"{where}: {field}: is an option of the command: --{name}")
    for name in ("sites", "keys", "policies"):
        if not isinstance(files := table.get(name, {}), dict):
            raise InputError(f"{where}: {name}: is a table of names and files, [{name}]")
        if table.get("engine") != "hub":  # whose sites name their files themselves
            table[name] = {site: str(path.parent / str(file)) for site, file in files.items()}
    if isinstance(table.get("certificate"), str):
        table["certificate"] = str(path.parent / table["certificate"])
    if isinstance(table["fit"].get("roster"), str):
        table["fit"]["roster"] = read_roster(path.parent / table["fit"]["roster"])
    return table


def combined(
    path: Path | None,
    site: list[str] | None,
    given: dict[str, Any],
    keys: dict[str, str],
    engine: str | None,
    address: str | None,
    hosts: int | None,
) -> Manifest:
    """The manifest that a file and the options make together; options win. What would do nothing is refused."""
    start: dict[str, Any] = {} if path is None else read_table(path)
    sites: dict[str, str] = {}
    for text in site or []:
        name, file = pair(text, "--site", "NAME=FILE.h5ad")
        if name in sites:
            raise InputError(f"--site {text!r}: there is a site {name!r} already")
        sites[name] = file
    start["sites"] = {**start.get("sites", {}), **sites}
    start["keys"] = {**start.get("keys", {}), **keys}
    start["fit"] = {**start.get("fit", {}), **given}
    if "design" not in start["fit"] and start["fit"].keys() <= Config.model_fields.keys():
        raise InputError("no design: give --design, or design = ... under [fit] in the federation file")
    told = {"engine": engine, "address": address, "hosts": hosts}
    chosen = {name: value for name, value in told.items() if value is not None}
    where = "options" if path is None else f"file {str(path)!r}"
    start_of = asked_at(where, {*given, *chosen})
    made = Manifest.read(start_of, **{**start, **chosen})
    for name in start["fit"]:
        if made.fit.protocol not in OF_PROTOCOLS.get(name, (made.fit.protocol,)):
            of = " and ".join(map(repr, OF_PROTOCOLS[name]))
            raise InputError(f"{start_of(f'fit.{name}')}: is of {of}, and does nothing with {made.fit.protocol!r}")
    if made.hosts is not None and made.engine == "local":
        raise InputError(f"{start_of('hosts')}: is of the engine 'ray'; with 'local' all sites share one process")
    return made


def asked_at(where: str, options: Collection[str]) -> Callable[[str], str]:
    """How a sentence about a `Manifest`'s field starts: with the option that asked for it, or a place in ``where``."""

    def start(field: str) -> str:
        name, _, rest = field.removeprefix("fit.").partition(".")
        if name in options:
            option = {"coefficients": "coefficient"}.get(name, name).replace("_", "-")
            return ": ".join(part for part in (f"--{option}", rest) if part)
        return where if field in {"", "fit"} else f"{where}: {field}"

    return start


def gene_names(path: Path, option: str) -> tuple[str, ...]:
    """Names in a file, one per line. Raises `InputError`."""
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not names:
        raise InputError(f"{option} {str(path)!r}: names no gene")
    return names


def levels_of(text: str) -> tuple[str, tuple[str, ...]]:
    """A factor and its levels, as ``--levels`` gives them. Raises `InputError`."""
    name, value = pair(text, "--levels", "FACTOR=REFERENCE,LEVEL,...")
    named = tuple(level.strip() for level in value.split(","))
    if "" in named:
        raise InputError(f"--levels {text!r}: names an empty level; quote the whole where a blank stands in it")
    return name, named
