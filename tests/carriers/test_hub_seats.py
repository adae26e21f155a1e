"""A party's place at a hub: one open question, one answer, and nobody else's seat."""

import asyncio

import pytest

from secirls.carriers.hub import seats
from secirls.carriers.hub.seats import Awake, EndedError, LaterError, Seat
from secirls.carriers.hub.wire import End, Reply, Turn

MINE, OTHER = b"m" * 16, b"o" * 16


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def seat(clock):
    return Seat("a", clock)


def turn(process=MINE, number=None):
    return Turn(b"s" * 16, process, None if number is None else Reply(number, b"answer"))


def test_a_question_is_there_until_it_is_answered_and_an_answer_is_taken_once(seat):
    async def go():
        assert await seat.turn(turn(), 0) is None
        answer = seat.ask("look", b"given")
        for _ in range(3):  # the line broke twice
            question = await seat.turn(turn(), 0)
            assert (question.number, question.verb, question.given) == (1, "look", b"given")
        assert not answer.done()
        assert await seat.turn(turn(number=1), 0) is None
        assert answer.result().value == b"answer"
        assert await seat.turn(turn(number=1), 0) is None  # sent again, after it was heard
        again = seat.ask("survey", b"")
        assert (await seat.turn(turn(number=1), 0)).number == 2
        assert not again.done(), "the answer to the question before is none to this one"

    asyncio.run(go())


def test_who_waits_is_woken_by_the_next_question(seat):
    async def go():
        waiting = asyncio.ensure_future(seat.turn(turn(), 30))
        await asyncio.sleep(0)
        seat.ask("look", b"")
        assert (await asyncio.wait_for(waiting, 5)).number == 1

    asyncio.run(go())


def test_who_waits_after_a_question_is_not_woken_again_and_again(seat, monkeypatch):
    looks, honest = [], seat.seen

    def seen(process):
        looks.append(1)
        honest(process)

    async def go():
        seat.ask("look", b"")
        await seat.turn(turn(), 0)
        seat._clock = asyncio.get_running_loop().time
        monkeypatch.setattr(seat, "seen", seen)
        assert await seat.turn(turn(number=1), 0.05) is None

    asyncio.run(go())
    assert len(looks) == 1


@pytest.mark.parametrize("number", [0, 2, 1 << 40])
def test_an_answer_to_no_open_question_is_not_taken(seat, number):
    async def go():
        seat.seen(MINE)
        answer = seat.ask("look", b"")
        await seat.turn(turn(number=number), 0)
        assert not answer.done()

    asyncio.run(go())


def test_nobody_takes_the_seat_of_a_process_that_lives(seat, clock):
    seat.seen(MINE)
    clock.now = seats.SILENT_SECONDS
    with pytest.raises(LaterError, match="another process that takes part as 'a'"):
        seat.seen(OTHER)
    seat.seen(MINE)
    seat.close(End(well=True, why="done"))
    with pytest.raises(EndedError, match="done"):
        seat.seen(OTHER)


def test_a_process_that_says_that_it_leaves_is_silent_at_once_and_stays_so(seat):
    async def go():
        seat.seen(MINE)
        seat.ask("look", b"")
        seat.depart(OTHER)
        assert not seat.silent, "nobody says so for another"
        seat.depart(MINE)
        assert seat.silent
        with pytest.raises(LaterError):  # a sign of life that was under way
            seat.seen(MINE)
        with pytest.raises(LaterError, match="next session"):
            seat.seen(OTHER)

    asyncio.run(go())


def test_in_the_place_of_a_process_that_left_before_it_was_asked_sits_the_next(seat):
    seat.seen(MINE)
    seat.depart(MINE)
    seat.seen(OTHER)
    assert seat.taken


def test_a_process_that_was_asked_nothing_is_replaced_once_it_is_silent(seat, clock):
    seat.seen(MINE)
    clock.now = seats.SILENT_SECONDS + 1
    assert seat.silent
    assert not seat.taken
    seat.seen(OTHER)
    assert seat.taken
    with pytest.raises(LaterError, match="another"):
        seat.seen(MINE)


def test_what_a_process_that_was_asked_knew_is_lost_with_it_until_the_next_session(seat, clock):
    async def go():
        seat.seen(MINE)
        answer = seat.ask("look", b"")
        clock.now = seats.SILENT_SECONDS + 1
        with pytest.raises(LaterError):
            await seat.turn(turn(OTHER, number=1), 0)
        assert not answer.done()
        seat.seen(MINE)  # it is back, with all that it knew
        assert seat.taken

    asyncio.run(go())


def test_nobody_who_never_called_is_silent(seat, clock):
    clock.now = 1e6
    assert not seat.silent
    assert not seat.taken


def test_when_all_is_over_whoever_waits_hears_it(seat):
    async def go():
        waiting = asyncio.ensure_future(seat.turn(turn(), 30))
        await asyncio.sleep(0)
        assert not seat.told.is_set()
        seat.close(End(well=True, why="done"))
        with pytest.raises(EndedError) as ended:
            await asyncio.wait_for(waiting, 5)
        assert ended.value.end.well
        assert seat.told.is_set()

    asyncio.run(go())


def test_nobody_is_kept_waiting_by_a_hub_that_leaves(seat):
    async def go():
        waiting = asyncio.ensure_future(seat.turn(turn(), 30))
        await asyncio.sleep(0)
        seat.leave()
        assert await asyncio.wait_for(waiting, 5) is None

    asyncio.run(go())


def test_while_a_hub_is_suspended_nobody_falls_silent(clock):
    awake = Awake(clock)
    seat = Seat("a", awake)
    seat.seen(MINE)
    clock.now += 3600
    awake.look()
    assert not seat.silent, "nobody was heard, and nobody could be"
    for _ in range(100):
        clock.now += 0.5
        awake.look()
    assert seat.silent, "a hub that ran all the while would have heard it"
