"""The printed lines that start Ray: each machine's files in a folder that nobody else enters, its logs on it alone.

Ray lets all users of a machine write to its folder, sockets among it: another user could stand between a site's process
and its node. A node that is told no folder takes the one that the first machine names, on whichever machine; and with a
log monitor every line that a site writes to its terminal is sent there. `tests/cluster/test_ray_start.py` runs them.
"""

import stat
import subprocess
import sys
from pathlib import Path

from secirls.carriers import cluster
from secirls.config import Config

MADE_OF = '"$RAY_TMPDIR/ray"'


def printed():
    return cluster.template(Config(design="~ condition"), ("berlin", "lyon"), {}, "10.0.0.1:6379")


def shell(lines, **environment):
    """The lines that these commands print, in a shell that knows nothing else."""
    env = {"PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(["sh", "-ec", lines], env=env, capture_output=True, text=True, check=True).stdout.splitlines()


def started(home):
    """What `ray start` of each printed line is given on a machine where all this is run, as Ray reads it."""
    from ray.scripts.scripts import start

    above, *lines = printed().split("\nray start ")
    for line in lines:
        words = f"printf '%s\\n' {line.splitlines()[0]}"
        yield start.make_context("start", shell(f"{above}\n{words}", HOME=str(home))).params


def others_enter(folder, home):
    """Whether other users of the machine get into a folder below a home that they may enter."""
    ways = [way for way in (folder, *folder.parents) if way.is_relative_to(home) and way != home and way.exists()]
    return all(way.stat().st_mode & stat.S_IXOTH for way in ways)


def open_to_others(home):
    """The folders of printed lines that others would get into, once Ray has let everybody write to them."""
    found = []
    for given in started(home):
        folder = Path(given["temp_dir"] or home / "of the first machine")
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        found += [folder] * others_enter(folder, home)
    return found


def test_no_other_user_gets_to_what_ray_keeps_on_a_machine(tmp_path):
    (tmp_path / "federation").mkdir(mode=0o755)  # as certificates may have been put there
    assert open_to_others(tmp_path) == []


def test_the_twin_that_names_no_folder_takes_one_that_all_users_enter(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_START", cluster._START.replace(f" --temp-dir={MADE_OF}", ""))
    assert len(open_to_others(tmp_path)) == 3


def heard(home):
    return [given["include_log_monitor"] is not False for given in started(home)]


def test_no_line_of_a_sites_log_is_sent_to_another_machine(tmp_path):
    assert heard(tmp_path) == [False] * 3


def test_the_twin_that_leaves_it_to_ray_has_every_line_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_START", cluster._START.replace(" --include-log-monitor=false", ""))
    assert heard(tmp_path) == [True] * 3


def test_what_stands_above_the_lines_is_for_a_shell_as_it_stands(tmp_path):
    """It was in comments, with words in brackets behind it that no shell takes."""
    above = printed().split("\nray start ")[0]
    assert max(map(len, above.splitlines())) <= 80
    told = dict(line.split("=", 1) for line in shell(f"{above}\nenv", HOME=str(tmp_path)) if line.startswith("RAY_"))
    place = tmp_path / "federation"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert told == {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(place),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place / "token"),
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(place / "ca.crt"),
        "RAY_TLS_SERVER_CERT": str(place / "head.crt"),
        "RAY_TLS_SERVER_KEY": str(place / "head.key"),
    }
    in_comment = [line[1:].strip() for line in above.splitlines() if line.startswith(("#   python", "#       $HOME"))]
    python = Path(sys.executable).parent
    shell("\n".join((above, f"PATH={python}:$PATH", *in_comment)), HOME=str(tmp_path))
    assert len((place / "token").read_text()) == 64
    assert stat.S_IMODE((place / "token").stat().st_mode) == 0o600


def test_without_its_environment_a_machine_starts_nothing_in_a_folder_of_all(tmp_path):
    line = next(line for line in printed().splitlines() if line.startswith("ray start"))
    assert "--temp-dir=/ray" in shell(f"printf '%s\\n' {line}")
