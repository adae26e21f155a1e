"""One fit whose parties compute on different machines: they ask themselves the same questions, to the bit.

Each site is a process of its own. One runs as the test does; one without NumPy's wide vectors; one whose compiler is
told that the processor is the plainest of its kind.
"""

import multiprocessing
import os
import sys

import pytest

from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.order import Place, Task
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.numerics.algebra import solve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAIN_COMPILER = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


def narrow_numpy():
    """The vector units that NumPy would use here, switched off."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    return {"NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))}


def round_otherwise():
    """Make this process one in which the solution of linear equations is off in its last bit."""
    honest = solve.solve

    def off(*given):
        solved, failed = honest(*given)
        return solved * (1 + 2**-52), failed

    for module in list(sys.modules.values()):
        if module.__name__.startswith("secirls.") and getattr(module, "solve", None) is honest:
            module.solve = off


def serve(pipe, place, config, spoil):
    """One site's process: verbs come in, answers or errors go out."""
    from secirls.site.desk import Desk
    from secirls.site.site import Site

    if spoil:
        round_otherwise()
    desk = Desk(Site(place, config, own_process=False))
    while (asked := pipe.recv()) is not None:
        try:
            pipe.send(desk.ask(*asked))
        except Exception as error:  # noqa: BLE001 - whoever leads is told
            pipe.send(error)


class Processes:
    """A federation of processes, each with an environment of its own."""

    def __init__(self, files, config, environments, spoiled=""):
        self.pipes, self.running = {}, []
        context = multiprocessing.get_context("spawn")
        for name, file in files.items():
            here, there = context.Pipe()
            process = context.Process(
                target=serve, args=(there, Place(name, str(file)), config, name == spoiled), daemon=True
            )
            kept = dict(os.environ)
            os.environ.update(environments[name])
            try:
                process.start()
            finally:
                os.environ.clear()
                os.environ.update(kept)
            self.pipes[name] = here
            self.running.append(process)
        self.sites = tuple(sorted(files))

    def ask(self, verb, arguments):
        for name, given in arguments.items():
            self.pipes[name].send((verb, *given))
        return {name: self.pipes[name].recv() for name in arguments}

    def fence(self, party):
        raise AssertionError(f"{party} was fenced")

    def close(self):
        for pipe in self.pipes.values():
            pipe.send(None)
        for process in self.running:
            process.join(30)


@pytest.fixture
def files(tmp_path):
    return write_simulated(tmp_path, sites=3, samples=24, genes=60, seed=7)


def run(files, environments, spoiled=""):
    config = Config(design="~ condition")
    federation = Processes(files, config, environments, spoiled)
    try:
        *_, end = lead(Task(config, "fit-1"), federation)
    except Exception as error:  # noqa: BLE001 - whatever ended the fit is looked at
        end = error
    finally:
        federation.close()
    return end


def test_a_fit_over_three_kinds_of_machine_is_followed_by_all(files):
    environments = dict(zip(sorted(files), ({}, narrow_numpy(), PLAIN_COMPILER), strict=True))
    end = run(files, environments)
    assert isinstance(end, Outcome), end
    assert len(end.rounds) >= 15
    followed = {row.party for row in end.rows if row.verb == "follow"}
    assert followed == set(files)


def test_a_machine_that_rounds_otherwise_is_named_before_any_sum(files):
    end = run(files, {name: {} for name in files}, spoiled="site2")
    assert isinstance(end, InputError)
    assert str(end).startswith("site 'site2': computes otherwise than the aggregator's machine")
