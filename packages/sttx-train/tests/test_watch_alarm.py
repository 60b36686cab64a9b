"""The loop alarm on prices that are made up: when it fires, once, when it is cleared, and what it forgets."""

import pytest

from sttx_core.errors import UsageError
from sttx_train.watch import AlarmConfig, LoopAlarm, Round, Said
from sttx_train.watch.alarm import MOST_AGENTS

NEW, COPY, STAMPED = (500.0, 700.0), (1.0, 700.0), (250.0, 1100.0)


def a_round(prices=COPY, *, session="s", waits=False, size=400, gist="", turn=0):
    bits, network = prices
    return Round(
        session=session,
        agent="",
        project="",
        number=1,
        tool="Bash",
        uid="",
        time=0.0,
        bytes=size,
        bits=bits,
        network_bits=network,
        frozen_bits=network,
        gist=gist,
        waits=waits,
        turn=turn,
    )


def fired(alarm, *rounds):
    """Return the positions at which the alarm fires."""
    return [at for at, one in enumerate(rounds) if alarm.add(one).fires]


def test_news_never_fires_and_copies_fire_once():
    alarm = LoopAlarm()
    assert fired(alarm, *[a_round(NEW)] * 200) == []
    (at,) = fired(alarm, *[a_round(COPY)] * 200)
    assert 1 <= at < 6


def test_two_copies_are_not_a_loop():
    assert fired(LoopAlarm(), a_round(NEW), a_round(COPY), a_round(COPY), *[a_round(NEW)] * 9) == []


def test_loops_with_changing_stamps_take_longer():
    before = [a_round(NEW)] * 10
    copies = fired(LoopAlarm(), *before, *[a_round(COPY)] * 40)
    stamped = fired(LoopAlarm(), *before, *[a_round(STAMPED)] * 40)
    assert len(copies) == len(stamped) == 1 and copies[0] < stamped[0] < 30


def test_progress_clears_the_alarm_and_a_second_loop_fires_again():
    alarm = LoopAlarm()
    loop, progress = [a_round(COPY)] * 30, [a_round(NEW)] * 30
    verdicts = [alarm.add(one) for one in [*loop, *progress, *loop]]
    first, second = [at for at, verdict in enumerate(verdicts) if verdict.fires]
    assert first < 30 and 60 <= second < 70
    cleared = next(at for at, verdict in enumerate(verdicts) if at > first and not verdict.looping)
    assert 30 < cleared < 50, "however long the loop was, some rounds with news end it"
    assert all(verdict.looping for verdict in verdicts[first:cleared])
    assert verdicts[59].repeats == 0 and verdicts[59].level == 0


def test_one_round_with_news_inside_a_loop_neither_clears_nor_repeats_it():
    alarm = LoopAlarm()
    assert len(fired(alarm, *[a_round(COPY)] * 20)) == 1
    assert fired(alarm, a_round(NEW), *[a_round(COPY)] * 20) == []


def test_waiting_counts_less():
    busy, waiting = LoopAlarm(), LoopAlarm()
    (soon,) = fired(busy, *[a_round(COPY)] * 200)
    (late,) = fired(waiting, *[a_round(COPY, waits=True)] * 200)
    assert late >= 3 * soon
    alarm = LoopAlarm(AlarmConfig(waiting=0.0))
    assert fired(alarm, *[a_round(COPY, waits=True)] * 200) == []
    level = alarm.add(a_round(COPY)).level
    assert alarm.add(a_round(NEW, waits=True)).level < level, "news always counts"


def test_a_users_message_with_news_takes_from_the_level_and_a_repeated_one_does_not():
    def level_after(bits, network):
        alarm = LoopAlarm()
        alarm.add(a_round(COPY))
        alarm.said(Said(name="s", bytes=50, bits=bits, network_bits=network))
        return alarm.add(a_round(COPY)).level

    nothing = LoopAlarm()
    expected = [nothing.add(a_round(COPY)).level for _ in range(2)][1]
    assert level_after(300.0, 300.0) < level_after(1.0, 300.0) == pytest.approx(expected)


def test_a_users_message_is_no_round_of_a_loop():
    alarm = LoopAlarm()
    for number in range(1, 4):
        assert alarm.add(a_round(COPY)).repeats == number
        alarm.said(Said(name="s", bytes=50, bits=1.0, network_bits=300.0))


def test_what_is_usual_for_an_agent_is_no_evidence():
    similar, more = (280.0, 620.0), (280.0, 820.0)
    assert len(fired(LoopAlarm(), *[a_round(NEW)] * 30, *[a_round(more)] * 99)) == 1
    assert fired(LoopAlarm(), *[a_round(more)] * 99) == [], "at first it learns what is usual"
    assert fired(LoopAlarm(), *[a_round(similar)] * 30, *[a_round(more)] * 99) == []
    assert len(fired(LoopAlarm(), *[a_round(similar)] * 30, *[a_round(COPY)] * 9)) == 1


def test_a_gist_seen_before_counts_although_numbers_look_like_news():
    rounds = [a_round((300.0, 500.0), gist="a")] * 20
    (at,) = fired(LoopAlarm(), *rounds)
    assert 3 <= at <= 6
    assert fired(LoopAlarm(AlarmConfig(again=0.0)), *rounds) == []
    others = [a_round((300.0, 500.0), gist=str(number)) for number in range(20)]
    assert fired(LoopAlarm(), *others) == []


def test_gists_are_kept_for_a_window():
    rounds = [a_round((300.0, 500.0), gist=str(number % 5)) for number in range(60)]
    assert len(fired(LoopAlarm(), *rounds)) == 1
    assert fired(LoopAlarm(AlarmConfig(window=4)), *rounds) == []
    alarm = LoopAlarm()
    for one in rounds:
        alarm.add(one)
    assert len(alarm._agents["s"].gists) == alarm.config.window


def test_a_loop_never_becomes_usual():
    alarm = LoopAlarm()
    verdicts = [alarm.add(a_round(COPY)) for _ in range(500)]
    assert sum(verdict.fires for verdict in verdicts) == 1 and verdicts[-1].looping


def test_agents_do_not_disturb_each_other():
    alarm = LoopAlarm()
    turns = [each for _ in range(10) for each in (a_round(COPY, session="a"), a_round(NEW, session="b"))]
    assert len(fired(alarm, *turns)) == 1
    assert alarm.add(a_round(COPY, session="a")).looping and not alarm.add(a_round(NEW, session="b")).looping


def test_the_usual_rate_is_that_of_rounds_outside_loops():
    alarm = LoopAlarm()
    assert alarm.add(a_round(NEW)).usual is None
    for _ in range(20):
        alarm.add(a_round(NEW))
    usual = alarm.add(a_round(COPY)).usual
    assert usual == pytest.approx(500 / 400)
    for _ in range(50):
        usual = alarm.add(a_round(COPY)).usual
    assert usual == pytest.approx(500 / 400)


def test_a_lower_threshold_is_sooner():
    low, high = (
        fired(LoopAlarm(AlarmConfig(threshold=level)), *[a_round(NEW)] * 9, *[a_round(STAMPED)] * 99)
        for level in (1.0, 9.0)
    )
    assert low < high


def test_state_is_bounded():
    alarm = LoopAlarm()
    for number in range(MOST_AGENTS + 5):
        alarm.add(a_round(session=str(number)))
    assert len(alarm._agents) == MOST_AGENTS
    config = alarm.config
    for _ in range(100):
        verdict = alarm.add(a_round(COPY))
    assert verdict.level <= config.threshold + config.room


def side_by_side(calls, turns, **each):
    return [a_round(turn=turn, **each) for turn in range(1, turns + 1) for _ in range(calls)]


def test_calls_side_by_side_count_as_one_round():
    before = [a_round(NEW)] * 10
    assert fired(LoopAlarm(), *before, *side_by_side(3, 1, prices=COPY)) == []
    one, three = (fired(LoopAlarm(), *before, *side_by_side(calls, 40)) for calls in (1, 3))
    assert len(one) == len(three) == 1, "it fires once, although the turn goes on"
    assert (three[0] - 10) // 3 == one[0] - 10
    alarm = LoopAlarm()
    verdicts = [alarm.add(each) for each in [*before, *side_by_side(2, 3)]]
    assert [each.repeats for each in verdicts[10:]] == [1, 1, 2, 2, 3, 3]


def test_a_call_with_news_makes_its_whole_turn_news():
    alarm = LoopAlarm()
    levels = [alarm.add(each).level for each in (a_round(COPY, turn=1), a_round(NEW, turn=1))]
    assert levels[0] > 3 * levels[1]
    assert not fired(alarm, *[a_round(each, turn=turn) for turn in range(2, 90) for each in (COPY, NEW)])


def test_rounds_side_by_side_do_not_repeat_each_others_gist():
    four = side_by_side(4, 1, prices=(300.0, 500.0), gist="a")
    alarm = LoopAlarm()
    assert all(alarm.add(each).level == 0 for each in four)
    assert alarm.add(a_round((300.0, 500.0), gist="a", turn=2)).level == alarm.config.again
    assert alarm.add(a_round((300.0, 500.0), gist="other", turn=2)).level < alarm.config.again


def test_a_users_message_ends_a_turn():
    alarm = LoopAlarm()
    alarm.add(a_round(COPY, turn=1))
    alarm.said(Said(name="s", bytes=50, bits=300.0, network_bits=300.0))
    assert [alarm.add(a_round(COPY, turn=1)).repeats for _ in range(2)] == [2, 2]


def test_an_impossible_threshold_is_named_as_the_option():
    with pytest.raises(UsageError, match=r"^--threshold must be above 0, not nan"):
        AlarmConfig(threshold=float("nan"))


@pytest.mark.parametrize("option", ["most", "room", "news"])
def test_impossible_settings_are_refused(option):
    with pytest.raises(UsageError, match=f"{option} must be above 0, not 0"):
        AlarmConfig(**{option: 0})
    with pytest.raises(UsageError, match=f"{option} must be above 0, not nan"):
        AlarmConfig(**{option: float("nan")})


def test_settings_out_of_range_are_refused():
    with pytest.raises(UsageError, match=r"waiting must be from 0 to 1, not 1\.5"):
        AlarmConfig(waiting=1.5)
    with pytest.raises(UsageError, match="drift must be from 0 to 10, not nan"):
        AlarmConfig(drift=float("nan"))
    with pytest.raises(UsageError, match="usual must be from 0 to 10, not -1"):
        AlarmConfig(usual=-1)
