"""Four hospitals with keys of their own, a transcript of their fit, and what a forger of transcripts can do."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest

from secirls.aggregator import transcript as room
from secirls.config import Config
from secirls.fitting import fit_config
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.key_files import make_roster, new_key

SITES = ("site1", "site2", "site3", "site4")


def simulated(folder, seed, genes=40):
    paths = write_simulated(folder, sites=4, samples=40, genes=genes, seed=seed)
    return {name: str(path) for name, path in paths.items()}


def keyed(folder, names=SITES):
    """Key files, and their roster as names and hexadecimal keys."""
    for name in names:
        new_key(name, folder)
    roster = make_roster([folder / f"{name}.pub" for name in names])
    return {name: roster.keys[name].hex() for name in names}, {name: str(folder / f"{name}.key") for name in names}


def config(**changes):
    """Of a short fit: an entry is made, signed, chained and audited alike in a long one."""
    return Config(**{"design": "~ condition", "kernel": "numpy", "preset": "irls", **changes})


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("files"), 3)


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    return keyed(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def roster(keys):
    return keys[0]


@pytest.fixture(scope="session")
def kept(tmp_path_factory, files, keys):
    """The transcript of an honest fit."""
    folder = tmp_path_factory.mktemp("kept") / "t"
    fit_config(config(roster=keys[0]), files, engine="local", keys=keys[1], transcript=folder)
    return folder


@pytest.fixture
def copy(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "copy")


@pytest.fixture(scope="session")
def forger():
    """Whoever keeps a transcript can change entries and messages, and chain all of it anew."""

    def lines(folder):
        return [json.loads(line) for line in (folder / room.LINES).read_text().splitlines()]

    def chain(folder, entries):
        before, texts = room.FIRST, []
        for entry in entries:
            texts.append(room.canonical({**entry, "before": before}))
            before = hashlib.sha256(texts[-1].encode()).hexdigest()
        (folder / room.LINES).write_text("".join(text + "\n" for text in texts))

    def put(folder, data):
        name = hashlib.sha256(data).hexdigest()
        (folder / room.MESSAGES / name).write_bytes(data)
        return name

    def verbs(entries, what, verb):
        return [
            place
            for place, entry in enumerate(entries)
            if entry["what"] == what and entry["content"]["map"]["verb"] == verb
        ]

    return SimpleNamespace(
        lines=lines, chain=chain, put=put, verbs=verbs, simulated=simulated, keyed=keyed, config=config
    )
