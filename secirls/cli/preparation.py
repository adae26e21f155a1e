"""Commands for before the first fit: simulated sites, claims, keys and rosters, clusters.

Promises: like every command, a mistake is one sentence; a private key is never shown or replaced.
"""

from __future__ import annotations

from os.path import relpath
from pathlib import Path
from typing import Annotated

import typer

from protocols.choice import NAMES
from secirls.cli.console import say
from secirls.cli.options.plain_command import PlainCommand, PlainGroup
from secirls.input_error import InputError
from secirls.outputs.free_folder import check_free, check_free_file


def simulate(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one h5ad file per site and truth.csv.")],
    sites: Annotated[int, typer.Option(min=3, help="Number of sites.")] = 4,
    samples: Annotated[int, typer.Option(min=1, help="Samples over all sites.")] = 40,
    genes: Annotated[int, typer.Option(min=1, help="Number of genes.")] = 2000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same counts; nothing secret depends on it.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace these files.")] = False,
) -> None:
    """Write simulated sites with known truth, to try things out.

    The obs column 'condition' has levels control and treated; var holds the true dispersions.
    """
    from secirls.inputs.datasets import write_simulated

    named = [out / name for name in ("truth.csv", *(f"site{number + 1}.h5ad" for number in range(sites)))]
    check_free(out, overwrite=True)
    for file in named:
        check_free_file(file, overwrite=overwrite)
    paths = write_simulated(out, sites=sites, samples=samples, genes=genes, seed=seed)
    words = " ".join(f"--site {name}={path}" for name, path in paths.items())
    say(f"secirls fit {words} --design '~ condition' --out {out / 'fit'}")


def claim(
    sites: Annotated[int, typer.Option(help="Number of sites.")],
    protocol: Annotated[str, typer.Option(help=f"{', '.join(NAMES)}.")] = "pairwise",
    threshold: Annotated[
        int | None, typer.Option(help="Sites that must answer. Default: the smallest that bears what is asked.")
    ] = None,
    colluders: Annotated[int, typer.Option(help="Sites that may pool what they know with the aggregator.")] = 0,
    dropouts: Annotated[int, typer.Option(help="Sites that may fall silent.")] = 0,
    consistency: Annotated[bool, typer.Option("--consistency", help="The aggregator may break the protocol.")] = False,
    neighbours: Annotated[int | None, typer.Option(help="Sites that each site shares masks with.")] = None,
) -> None:
    """Say exactly what a protocol promises so many sites, or why it can't."""
    from protocols.claims import plan
    from protocols.sessions.settings import Settings
    from secirls.config import LEAN, MOST_ROUNDS

    rounds = MOST_ROUNDS if protocol == LEAN else Settings.rounds_per_batch
    asked = Settings(threshold=threshold, consistency=consistency, neighbours=neighbours, rounds_per_batch=rounds)
    settings, sentences = plan(protocol, sites, asked, colluders, dropouts)
    if settings.threshold is not None:
        say(f"--threshold {settings.threshold}" + (" --consistency" if consistency else ""))
    for sentence in sentences:
        say(f"* {sentence}", wrap=True)


def ground(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The site's or helper's name, as in the roster.")],
    data: Annotated[str | None, typer.Option(metavar="FILE.h5ad", help="A site's AnnData file.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="NAME.key", help="Its private key file. Default: NAME.key.")
    ] = None,
    roster: Annotated[
        str, typer.Option(metavar="FILE", help="The roster that it agreed to, or the roster's digest.")
    ] = "roster.json",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the file goes. Default: site.toml, or a helper's NAME.toml."),
    ] = None,
) -> None:
    """Write the file that a site, or a helper, stands on: its data, key, roster and rules, with the defaults shown.

    Whoever starts it may name this file, never what is in it. Paths are from where it lies.
    """
    from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, party_id
    from secirls.site.grounds.ground import template
    from secirls.site.grounds.helper_ground import helper_template
    from secirls.site.grounds.key_files import is_digest, write_new

    key, helper = key or f"{name}.key", name in (KEY_HOLDER, KEY_DEALER)
    place = out or Path(f"{name}.toml" if helper else "site.toml")
    if helper and data is not None:
        raise InputError(f"--data: the {name} is no site and has no data")
    if helper:
        text = helper_template(name, key, roster)
    elif data is None:
        raise InputError(f"--data is missing: the AnnData file of site {name!r}")
    else:
        text = template(party_id(name), data, key, roster)
    files = {"--data": data, "--key": key, "--roster": None if is_digest(roster) else roster}
    lacking = {option: file for option, file in files.items() if file and not (place.parent / file).exists()}
    for option, file in lacking.items():
        if Path(file).exists():
            there = relpath(file, place.parent)
            raise InputError(f"{option} {file}: paths are from where {place} lies, and from there it is {there}")
    write_new(place, text)
    option = "--key" if helper else "--site"
    say(f"{place}: read the rules, change them where yours differ, and start with {option} {name}={place}", wrap=True)
    if lacking:
        named = ", ".join(str(place.parent / file) for file in lacking.values())
        say(f"Not there yet, where paths are from the folder of {place.name}: {named}", wrap=True)


keys_app = typer.Typer(
    cls=PlainGroup, help="Make signing keys and the roster that sites agree on.", no_args_is_help=True
)


@keys_app.command("new", cls=PlainCommand)
def keys_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The site's name.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.key and NAME.pub go.")] = Path(),
) -> None:
    """Make a site's signing key: NAME.key stays with the site, NAME.pub is for the others."""
    from secirls.site.grounds.key_files import new_key

    private, public = new_key(name, out)
    say(f"{private}: private, readable by you alone; it never leaves this site", wrap=True)
    say(f"{public}: public, for the roster", wrap=True)


@keys_app.command("roster", cls=PlainCommand)
def keys_roster(
    files: Annotated[list[Path], typer.Argument(metavar="NAME.pub...", help="The public file of every site.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the roster goes.")] = Path("roster.json"),
) -> None:
    """Put public keys together into the roster; compare its digest over another channel."""
    from secirls.site.grounds.key_files import make_roster, write_new

    roster = make_roster(files)
    write_new(out, roster.to_json() + "\n")
    say(f"{out}: {', '.join(roster)}", wrap=True)
    say(f"digest {roster.digest.hex()}: every site should see the same", wrap=True)


cluster_app = typer.Typer(cls=PlainGroup, help="Prepare several machines for one federation.", no_args_is_help=True)


@cluster_app.command("template", cls=PlainCommand)
def cluster_template(
    manifest: Annotated[Path, typer.Argument(metavar="FEDERATION.TOML", help="Sites and options as a file.")],
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The aggregator's machine. Default: the manifest's address.")
    ] = None,
    jobs: Annotated[bool, typer.Option("--jobs", help="Of a cluster that runs the fit as a Ray job.")] = False,
) -> None:
    """Print the 'ray start' line of every machine that the federation needs."""
    from secirls.agreement.manifest import Manifest
    from secirls.carriers.cluster import template
    from secirls.cli.federation_file import read_table

    told = Manifest.from_table(f"file {str(manifest)!r}", read_table(manifest))
    head = address or told.address
    if head is None:
        raise InputError("no address: give --address HOST:PORT of the aggregator's machine")
    say(template(told.fit, tuple(told.sites), told.nodes, head, jobs=jobs))


@cluster_app.command("certs", cls=PlainCommand)
def cluster_certs(
    machine: Annotated[
        list[str], typer.Argument(metavar="MACHINE=ADDRESS[,ADDRESS]...", help="Every machine's name and addresses.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("certs"),
) -> None:
    """Make TLS certificates, so that only these machines connect to each other, and nobody else reads along.

    Each machine needs ca.crt and its own MACHINE.key and MACHINE.crt; ca.key goes to none of them. Where the folder
    has both files of an authority, it signs these machines too, and no file is replaced.
    """
    from secirls.carriers.certificates import certificates, moment
    from secirls.cli.federation_file import pair

    machines: dict[str, list[str]] = {}
    for text in machine:
        name, value = pair(text, "machine", "NAME=ADDRESS")
        if name in machines:
            raise InputError(f"machine {text!r}: there is a machine {name!r} already; join its addresses by commas")
        machines[name] = [host.strip() for host in value.split(",")]
    signed = certificates(out, machines)
    for path in signed.files:
        say(str(path))
    by = "the authority that was there" if signed.further else "a new authority"
    say(f"{', '.join(machines)}: signed by {by}, valid until {moment(signed.until)} (UTC)", wrap=True)
