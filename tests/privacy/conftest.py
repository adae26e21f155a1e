"""Four hospitals on grounds of their own, and an aggregator of a test's own making that leads them.

The sites are real ones, started from real ``site.toml`` files with the default policy; what leads them is a `Room`,
which keeps to the verbs of `secirls.aggregator.rounds` and deviates where a test says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest

from protocols.choice import helpers, make_collector
from protocols.secure_sum import Context, Pending
from protocols.sessions.session import Roster
from protocols.totals import pack_total
from protocols.verified import CHECK_VALUES
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.agreement import agree
from secirls.agreement.order import Place, Task
from secirls.agreement.past import Begun
from secirls.agreement.record import Record, followed, query_digest
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.query import Query, Total
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.ground import template
from secirls.site.grounds.key_files import make_roster, new_key, read_roster
from secirls.site.guarding import guard
from secirls.site.helper import Helper
from secirls.site.in_common import InCommon
from secirls.site.site import Site
from tests.files import write

NAMES = ("site1", "site2", "site3", "site4")


@dataclass
class Grounds:
    """A folder a site: its data, its key, the roster it agreed to, and ``site.toml``."""

    folder: Path
    names: tuple[str, ...]
    data: dict[str, Path]
    keys: Path
    helpers: tuple[str, ...] = ()
    trusting: bool = False

    def trust(self):
        """Let the sites answer what an aggregator chooses: what holds without lock-step is tested too."""
        if not self.trusting:
            self.trusting = True
            self.rule("require_lock_step = false")
        return self

    def place(self, name):
        return Place(name, str(self.folder / name / "site.toml"))

    def rule(self, text, *names):
        """Add a rule to the policies of the named sites, or of all."""
        for name in names or self.names:
            with (self.folder / name / "site.toml").open("a") as file:
                file.write(f"\n{text}\n")
        return self

    def edit(self, name, change):
        """Change a site's AnnData file in place."""
        adata = read(self.data[name].read_bytes()).copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            change(adata)
        write(adata, self.data[name])
        return self

    def counts(self, name):
        """The truth, ``(samples, genes)``."""
        return np.asarray(read(self.data[name].read_bytes()).X).astype(np.int64)

    def all_counts(self):
        return np.concatenate([self.counts(name) for name in self.names])

    def told(self):
        """The roster as a configuration has it."""
        return read_roster(self.folder / self.names[0] / "roster.json")


@lru_cache(maxsize=32)
def read(content):
    """The AnnData of a file's bytes, read once for all tests that begin with the same; whoever changes it copies it."""
    import anndata
    import h5py

    with h5py.File(BytesIO(content), "r") as file:
        return anndata.io.read_elem(file)


@cache
def simulated(sites, samples, genes, seed):
    """What `write_simulated` writes, file by file: drawn and packed once in a process for all tests that ask for it."""
    with TemporaryDirectory() as folder:
        made = write_simulated(Path(folder), sites=sites, samples=samples, genes=genes, seed=seed)
        return {path.name: path.read_bytes() for path in made.values()}


def unpack(folder, files):
    """Write files of bytes; gives their paths."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def settle(folder, names=NAMES, *, samples=40, genes=60, seed=1, beside=(), data=None):
    """Write the grounds of these sites; ``beside`` are helpers that the roster names too."""
    folder.mkdir(parents=True, exist_ok=True)
    made = data.values() if data else unpack(folder / "data", simulated(len(names), samples, genes, seed))
    files = dict(zip(names, made, strict=True))
    keys = folder / "keys"
    publics = [new_key(name, keys)[1] for name in (*names, *beside)]
    roster = make_roster(publics).to_json()
    for name in names:
        own = folder / name
        own.mkdir()
        (own / "roster.json").write_text(roster)
        (own / "site.toml").write_text(template(name, str(files[name]), str(keys / f"{name}.key"), "roster.json"))
    return Grounds(folder, tuple(names), files, keys, tuple(beside))


@dataclass
class Room:
    """An aggregator of its own making, that leads real sites through the real verbs."""

    places: dict[str, Place]
    config: Config
    run: str = "fit-1"
    helper_keys: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.names = tuple(sorted(self.places))
        self.sites = {name: Site(place, self.config, own_process=False) for name, place in self.places.items()}
        self.helpers = {
            name: Helper(name, self.config, self.helper_keys.get(name)) for name in helpers(self.config.protocol)
        }
        self.batch, self.round, self.totals, self.contexts = -1, 0, {}, {}

    # before the session

    def survey(self):
        self.facts = {name: site.survey() for name, site in self.sites.items()}
        keys = {name: helper.key() for name, helper in self.helpers.items()}
        self.agreement, self.genes = agree(list(self.facts.values()), self.config, keys, self.run)
        return self

    def join(self, **alter):
        """All join; ``alter`` maps a site to what it is told in place of the agreement."""
        for name, site in self.sites.items():
            site.join(alter.get(name, lambda told: told)(self.agreement))
        for helper in self.helpers.values():
            helper.join(self.agreement)
            while helper.prepare() is not None:
                pass
        self.roster = Roster(self.agreement.roster)
        self.collector = make_collector(self.config.protocol, self.roster, self.config.settings(self.agreement.digest))
        self.state = self.agreement.digest
        return self

    def meet(self, batch=0):
        if batch <= self.batch:
            return self
        everyone = {**self.sites, **(self.helpers if batch == 0 else {})}
        hellos = {name: party.hello(batch).message for name, party in everyone.items()}
        grants = {name: party.meet(hellos, batch).message for name, party in everyone.items()}
        self.collector.meet(hellos, grants, batch)
        if batch == 0:
            greetings = {name: site.greet().message for name, site in self.sites.items()}
            dealer, *others = self.names
            dealt = self.sites[dealer].deal(greetings).message
            for name in others:
                self.sites[name].take(greetings, dealt)
        self.batch = batch
        return self

    def open(self):
        """Everything up to the first sum."""
        return self.survey().join().meet()

    # sums

    def context(self, query, cohort=None, state=None):
        """The context of the next round, as sites make it that were asked this and nothing else."""
        cohort = tuple(cohort or self.names)
        layout = query.layout(len(cohort), guard.chained(self.state if state is None else state, query.to_bytes()))
        told = query.verified or self.config.lock_step
        values = layout.values + (CHECK_VALUES[layout.limbs] if told else 0)
        return layout, Context(self.collector.session, self.round, 0, cohort, layout.digest, values, layout.limbs)

    def payloads(self, query, cohort=None):
        """The answers of a round, and what they are answers to; the round is used up."""
        self.meet(self.round // self.config.rounds_per_batch)
        layout, context = self.context(query, cohort)
        asked = query_digest(query) if self.config.lock_step else query.to_bytes()
        sent = {
            name: self.sites[name].contribute(asked, self.round, 0, context.cohort).message for name in context.cohort
        }
        self.state = guard.chained(self.state, query.to_bytes())
        self.contexts[self.round] = context
        self.round += 1
        return layout, context, sent

    def add_up(self, payloads, context):
        """Open the sum of these payloads."""
        outcome = self.collector.combine(payloads, context)
        while isinstance(outcome, Pending):
            replies = {}
            for name, request in outcome.requests.items():
                if name in self.sites:
                    replies[name] = self.sites[name].assist(request, context.round, context.attempt).message
                else:
                    replies[name] = self.helpers[name].assist(request, context).message
            outcome = self.collector.open(outcome, replies)
        return outcome

    def total(self, query, cohort=None, *, tell=None):
        """One secure sum, opened and decoded. ``tell`` turns a verified total into what the sites are told of it."""
        layout, context, sent = self.payloads(query, cohort)
        opened = self.add_up(sent, context)
        arrays = layout.decode(opened.vector[: layout.values], len(opened.parties))
        if query.verified or self.config.lock_step:
            told = opened.vector if tell is None else tell(opened.vector.copy(), layout)
            for name in context.cohort if told is not None else ():
                self.sites[name].hear(pack_total(told), context.round, context.attempt, opened.parties)
        if self.config.lock_step:
            self.state = followed(self.state, Total(arrays, opened.parties, context.cohort))
        return arrays

    def census(self, **how):
        design = self.agreement.design(self.config)
        return self.total(CensusQuery(self.every, len(design.columns), len(design.groups)), **how)

    @property
    def every(self):
        return np.ones(len(self.genes), dtype=bool)

    def asked(self, *genes):
        mask = np.zeros(len(self.genes), dtype=bool)
        mask[list(genes)] = True
        return mask


def config_of(grounds, **changes):
    options = {"design": "~ condition", "kernel": "numpy", "precompute": False, **changes}
    return Config(**{"roster": grounds.told(), **options})


def room_of(grounds, names=None, run="fit-1", **changes):
    """The Room that the driver of an honest fit would make; nothing was asked yet.

    Unless ``trust_aggregator=False`` its sites answer what the Room chooses to ask.
    """
    changes = {"trust_aggregator": True, **changes}
    if changes["trust_aggregator"]:
        grounds.trust()
    places = {name: grounds.place(name) for name in names or grounds.names}
    keys = {name: str(grounds.keys / f"{name}.key") for name in grounds.helpers}
    return Room(places, config_of(grounds, **changes), run, keys)


def sites_of(grounds, config, names=None):
    """Sites that share a process, and what follows from public things: as those of a fit in this one do."""
    common = InCommon()
    return {
        name: Site(grounds.place(name), config, own_process=False, common=common) for name in names or grounds.names
    }


def normalised(grounds, run=None, **changes):
    """What an honest fit in lock-step opens of counts over size factors, and its sites; it goes no farther.

    By design column ``(genes,)`` each, and over all samples under the name "all".
    """
    fit = until_normalised(grounds, run, **changes)
    next(fit)
    return next(fit)


def until_normalised(grounds, run=None, **changes):
    """The same in two steps, of which the first ends before anything was asked; it gives nothing."""
    config = config_of(grounds, **{"preset": "irls", **changes})
    sites = sites_of(grounds, config)
    for event in lead_fit(Task(config, run or config.digest), LocalFederation(sites)):
        if isinstance(event, Begun):
            columns = event.columns
            yield
        if isinstance(event, Record) and event.told.kind in ("normalised", "positive_normalised"):
            yield (
                dict(zip(columns, event.arrays["xt_normalised"].T, strict=True)) | {"all": event.arrays["normalised"]},
                sites,
            )
            return
    raise AssertionError("a fit without size factors")


@pytest.fixture
def lay(tmp_path):
    """``lay(where="grounds", ...)``: the grounds of four sites, with the default policy; see `settle`."""

    def made(where="grounds", *args, **options):
        return settle(tmp_path / where, *args, **options)

    return made


@pytest.fixture
def grounds(lay):
    """Four sites of ten samples on their own grounds."""
    return lay()


@pytest.fixture
def shallow(lay):
    """Grounds of 200 genes, the rarest of which are not in all samples."""

    def without_small_counts(adata):
        adata.X[adata.X < 5] = 0

    grounds = lay(genes=200)
    for name in grounds.names:
        grounds.edit(name, without_small_counts)
    return grounds


@pytest.fixture
def at_any_question(monkeypatch):
    """Sites may fall silent at any question, for tests of what else holds then: see `test_where_sites_fall_silent`."""
    monkeypatch.setattr(Query, "may_shrink", True)


@pytest.fixture(scope="session")
def lead():
    """What tests need of this page: ``lead.room``, ``lead.config``, ``lead.Room``, ``lead.normalised`` and others."""
    return SimpleNamespace(
        room=room_of,
        config=config_of,
        Room=Room,
        settle=settle,
        sites=sites_of,
        replace=replace,
        normalised=normalised,
        until_normalised=until_normalised,
    )
