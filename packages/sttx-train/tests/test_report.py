"""Reports: words that are new when first read and used again later; what is kept of a long stream."""

import re

import numpy as np
import pytest

from sttx_core.render import render
from sttx_core.tokenizers import ByteTokenizer
from sttx_core.traces import AssistantMessage, Meta, ToolResult, ToolUse, UserMessage
from sttx_train.evaluate.scoring import ScoredTrace
from sttx_train.predict import Prices
from sttx_train.report import Report, make_report, summary
from sttx_train.report.cells import Cell, Cells
from sttx_train.report.drawing import HEIGHT, WIDTH, draw
from sttx_train.report.passages import REPEAT, TraceInfo, cut_passages, spans
from sttx_train.report.repeats import repeats
from sttx_train.report.reuse import News, Place, Reuse
from sttx_train.report.shading import segments, visible_text
from sttx_train.report.view import amount, blocks, date_range, label, words_of_passage
from sttx_train.report.words import looks_random, priced_text, words_of

BYTES = [bytes([value]) for value in range(256)]
UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


class FakePrices:
    """Prices texts by bytes: a word costs 4 bits a byte when it is new to a session, and 0.1 later.

    The frozen network always pays 4; common words cost both of them 0.1.
    """

    COMMON = frozenset(b"the on is of use in User Assistant Tool result call Bash request done".split())

    def __init__(self):
        self.seen = set()

    def __call__(self, trace):
        text = render(trace).encode()
        paid, frozen = np.full(len(text), 0.1), np.full(len(text), 0.1)
        for match in re.finditer(rb"[\w-]+", text):
            if match[0] in self.COMMON:
                continue
            frozen[match.start() : match.end()] = 4
            if (trace.meta.session, match[0]) not in self.seen:
                paid[match.start() : match.end()] = 4
            self.seen.add((trace.meta.session, match[0]))
        return ScoredTrace(
            trace=trace,
            ids=tuple(ByteTokenizer().encode(text.decode())),
            paid=np.ones(len(text), bool),
            prices=Prices(bits=paid, network=frozen, frozen=frozen),
            bytes=len(text),
        )


def user(text, session="s", **meta):
    return UserMessage(meta=Meta(session=session, **meta), text=text)


def result(output, session="s", **meta):
    return ToolResult(meta=Meta(session=session, **meta), name="Bash", output=output)


def report_of(*traces, **options):
    report, price = Report(ByteTokenizer(), **options), FakePrices()
    for trace in traces:
        report.add(price(trace))
    return report.finish()


def text_of(data, paid, frozen=None):
    paid = np.broadcast_to(np.asarray(paid, float), len(data))
    return priced_text(list(data), paid, paid if frozen is None else np.full(len(data), frozen), BYTES)


def info(kind="tool_result", tool="Bash", **more):
    values = {"number": 0, "uid": "", "subagent": "", "time": 0.0, "bytes": 1, "paid": 1.0, "frozen": 1.0}
    return TraceInfo(kind=kind, tool=tool, news=0.0, **(values | more))


# --- words


def test_every_bit_up_to_the_last_word_is_a_words():
    data = "The port of größe_2 is 48213.\n".encode()
    paid = np.random.default_rng(0).random(len(data))
    words = words_of(priced_text(list(data), paid, paid * 2, BYTES))
    assert [name.decode() for name in words.names] == ["The", "port", "of", "größe_2", "is", "48213"]
    assert words.paid_W.sum() == pytest.approx(paid[: words.ends_W[-1]].sum(), rel=1e-5)
    np.testing.assert_allclose(words.frozen_W, 2 * words.paid_W, rtol=1e-5)


def test_a_token_of_several_bytes_shares_its_price():
    text = priced_text([0, 1, 2], np.array([2.0, 6.0, 1.0]), np.zeros(3), [b"on ", b"port 8", b"0\n"])
    words = words_of(text)
    assert words.paid_W.tolist() == pytest.approx([4 / 3, 2 / 3 + 4, 2 + 0.5])


def test_no_word_is_in_a_terminal_escape_or_is_a_sign():
    names = words_of(text_of("\x1b[1mBold\x1b[22m \x1b[?25l 19→_MOST ─── 漢字 😀 é«x»".encode(), 1)).names
    assert [name.decode() for name in names] == ["Bold", "19", "_MOST", "漢字", "é", "x"]


def test_what_redaction_leaves_is_no_word():
    data = b"cd /home/[user]/x KEY=[REDACTED github-token 3f2a91c0] to [email 3f2a91c0], user"
    names = words_of(text_of(data, 1)).names
    assert b" ".join(names) == b"cd home x KEY to user"


def test_a_text_without_words():
    for data in (b"", b"...\n"):
        words = words_of(text_of(data, 1.0))
        assert len(words.names) == len(words.paid_W) == len(words.ends_W) == 0


@pytest.mark.parametrize("name", [UUID, "2ab2a96", "8fae94c33300", "toolu_01AbC9dEf7"])
def test_random_strings(name):
    assert looks_random(name.encode())


@pytest.mark.parametrize("name", ["48213", "sha256", "settled_at_ms", "Ottoline", "RWKV7", "fe80"])
def test_names_and_numbers_are_not_random_strings(name):
    assert not looks_random(name.encode())


# --- where words come from


def read_all(*texts, reuse=None, session="s"):
    reuse, words = reuse or Reuse(), [words_of(text_of(text.encode(), 0.0, 4.0)) for text in texts]
    return [reuse.read(session, number, each) for number, each in enumerate(words)]


def test_a_word_comes_from_where_it_was_first_read():
    uses = read_all("port 48213 here", "open 48213", "close 48213")
    assert uses[0] == []
    assert [use.place for use in uses[1] + uses[2]] == [Place(0, 1), Place(0, 1)]


def test_a_pair_of_words_comes_from_where_the_pair_was_first_read():
    uses = read_all("red door", "blue lamp", "blue door", "big blue door")
    assert [use.place for use in uses[2]] == [Place(1, 0), Place(0, 1)]
    assert [use.place for use in uses[3]] == [Place(1, 0), Place(2, 1)]


def test_a_word_is_not_used_by_its_own_text():
    assert read_all("door and door and door")[0] == []


def test_sessions_do_not_use_each_others_words():
    reuse = Reuse()
    assert read_all("port 48213", reuse=reuse)[0] == read_all("port 48213", reuse=reuse, session="t")[0] == []


def test_a_long_copy_counts_like_a_few_words():
    line = " ".join(f"word{number}" for number in range(40))
    short, long = read_all(line, "word7 word8 next")[1], read_all(line, line)[1]
    assert len(short) == 2 and len(long) == 40
    assert sum(use.saved for use in long) == pytest.approx(2 * np.mean([4 * 6 - 2, 4 * 7 - 2]), rel=0.2)
    assert sum(use.saved for use in long) < 2 * sum(use.saved for use in short)


def test_memory_is_bounded():
    reuse = Reuse(most=50)
    texts = [f"alpha{number} beta{number} gamma{number}" for number in range(100)]
    read_all(*texts, reuse=reuse)
    assert len(reuse._young) + len(reuse._old) <= 100
    late = words_of(text_of(b"alpha99 alpha1", 0.0, 4.0))
    assert [use.place for use in reuse.read("s", 100, late)] == [Place(99, 0)], "the oldest are forgotten"


def test_news_is_what_a_word_cost_and_later_uses_save():
    words = words_of(text_of(b"one cheap", [5.0] * 4 + [0.1] * 5))
    news = News(words)
    assert news.bits_W.tolist() == [0, 0]
    for place in (Place(0, 0), Place(0, 1)):
        news.add(type("U", (), {"place": place, "saved": 7.0})())
    assert news.bits_W.tolist() == pytest.approx([7.0, 0.0]), "a cheap word is not new"
    for _ in range(9):
        news.add(type("U", (), {"place": Place(0, 0), "saved": 7.0})())
    assert news.bits_W[0] == pytest.approx(9.0), "not more than it cost beyond an ordinary word"
    assert news.uses_W.tolist() == [10, 1]


def test_random_strings_are_not_news_however_often_they_are_printed():
    news = News(words_of(text_of(f"{UUID} marigold".encode(), 4.0)))
    for word in (0, 1):
        news.add(type("U", (), {"place": Place(0, word), "saved": 50.0})())
    assert news.bits_W[0] == 0 and news.bits_W[1] == 30.0


# --- passages


@pytest.mark.parametrize("seed", range(5))
def test_spans_cover_a_text_in_whole_characters(seed):
    dice = np.random.default_rng(seed)
    data = "".join(dice.choice(list("ab \n\né漢😀"), 3000)).encode()
    found = list(spans(data, 80))
    assert found[0][0] == 0 and found[-1][1] == len(data)
    assert all(end == start for (_, end), (start, _) in zip(found, found[1:], strict=False))
    for start, end in found:
        assert 0 < end - start <= 80
        data[start:end].decode()


def test_spans_end_with_lines_or_words():
    lines = b"first line\nsecond line\nthird\n"
    assert [lines[start:end] for start, end in spans(lines, 24)] == [b"first line\nsecond line\n", b"third\n"]
    data = b"word " * 30
    assert all(data[start:end].endswith(b" ") for start, end in spans(data, 64))
    data = b'"text":"' + b"sentence of json\\n" * 10
    assert all(data[start:end].endswith(b"\\n") for start, end in spans(data, 80))
    assert list(spans(b"x" * 100, 60)) == [(0, 60), (60, 100)]
    assert list(spans(b"", 60)) == []


def test_spans_survive_bytes_that_are_not_text():
    data = b"\xff\x80\x80\x80\x80" * 100
    found = list(spans(data, 64))
    assert b"".join(data[start:end] for start, end in found) == data


def test_passages_add_up_to_their_trace():
    data = b"Tool result: Bash\n" + b"".join(b"line number %d is here\n" % number for number in range(100))
    dice = np.random.default_rng(0)
    text = priced_text(list(data), dice.random(len(data)), dice.random(len(data)), BYTES)
    words = words_of(text)
    news = dice.random(len(words.names))
    passages = cut_passages(info(), text, words, news, np.ones(len(news), int))
    assert b"".join(passage.data for passage in passages) == data
    assert sum(passage.paid for passage in passages) == pytest.approx(text.paid_T.sum(), rel=1e-5)
    assert sum(passage.frozen for passage in passages) == pytest.approx(text.frozen_T.sum(), rel=1e-5)
    assert sum(passage.news for passage in passages) == pytest.approx(news.sum())


def test_levels_are_two_bits_apart():
    text = text_of(b"abcdefg", [0.9, 1, 3, 5.5, 8.9, 10, 40])
    (passage,) = cut_passages(info(), text, words_of(text), np.zeros(1), np.zeros(1, int))
    assert passage.levels_B.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_words_next_to_each_other_are_one_mark():
    text = text_of(b"see tools/harbor/sealed and port 4821\n", 4.0)
    words = words_of(text)
    news = np.array([0, 9, 8, 7, 0, 0, 6.0])
    (passage,) = cut_passages(info(), text, words, news, np.array([0, 1, 3, 2, 0, 0, 5]))
    assert [(name, mark.news, mark.uses) for name, mark in words_of_passage(passage)] == [
        ("tools/harbor/sealed", 24.0, 3),
        ("4821", 6.0, 5),
    ]


def test_short_numbers_and_single_letters_are_not_named():
    text = text_of(b"row 98 of 17, x and port 4821\n", 4.0)
    words = words_of(text)
    (passage,) = cut_passages(info(), text, words, np.full(8, 9.0), np.ones(8, int))
    assert {name for name, _ in words_of_passage(passage)} == {"row", "of", "and", "port"}
    assert "98" not in [name for name, _ in words_of_passage(passage)]


def test_what_was_read_before_is_a_repeat_and_is_folded():
    known, new = b"this was all read before, word by word\n" * 40, b"but this line was not\n"
    text = text_of(known + new, [0.01] * len(known) + [4.0] * len(new), 2.0)
    assert repeats(text) == [(0, len(known))]
    words = words_of(text)
    zeros = np.zeros(len(words.names))
    passages = cut_passages(info(), text, words, zeros, zeros.astype(int))
    assert passages[0].folded > 1000 and (passages[0].levels_B == REPEAT).all()
    assert sum(passage.bytes for passage in passages) == len(known + new)
    assert sum(passage.repeated for passage in passages) == len(known)
    assert segments(passages[0])[-1].folded + 48 == passages[0].bytes - 1
    assert passages[-1].data.endswith(new)


def test_cheap_text_that_is_cheap_for_everyone_is_not_a_repeat():
    assert repeats(text_of(b"a" * 500, 0.01, 0.02)) == []
    assert repeats(text_of(b"a" * 100, 0.0, 4.0)) == [], "too short"
    assert repeats(text_of(b"", 0.0)) == []


# --- reports


def test_a_fact_that_is_used_again_is_first_and_a_hash_is_not():
    noise = [result(f"request {UUID[:-4]}{number:04d} done") for number in range(20)]
    fact = user("The relay listens on port 48213", uid="fact")
    report = report_of(
        *noise[:10], fact, *noise[10:], result("curl localhost:48213"), user("48213 answers"), result(UUID)
    )
    (session, passage), *_ = report.newest(5)
    assert (passage.trace.uid, session.name) == ("fact", "s")
    assert words_of_passage(passage)[0][0] == "48213" and words_of_passage(passage)[0][1].uses == 2
    assert all(UUID[:8] not in text for one in report.newest(99) for text, _ in words_of_passage(one[1]))


def test_sums_and_summary():
    traces = [
        user("alpha beta", time=100.0, project="p"),
        result("alpha\nomega", session="t"),
        user("alpha 9"),
    ]
    report = report_of(*traces)
    facts = summary(report)
    texts = [render(trace) for trace in traces]
    assert facts["traces"] == 3 and facts["bytes"] == sum(map(len, texts))
    assert [each["session"] for each in facts["sessions"]] == ["s", "t"]
    for name in ("bytes", "bits", "frozen_bits", "new_bits", "repeated_bytes", "traces"):
        assert facts[name] == pytest.approx(sum(each[name] for each in facts["sessions"])), name
    (top,) = facts["top"]
    assert (top["session"], top["project"], top["type"]) == ("s", "p", "user_message")
    assert top["passage"]["words"] == [{"text": "alpha", "new_bits": pytest.approx(14.2), "used_later": 1}]


def test_make_report_is_the_loop():
    traces = [user("alpha beta"), result("alpha beta gamma")]
    price = FakePrices()
    assert summary(make_report(map(price, traces), ByteTokenizer())) == summary(report_of(*traces))


def test_a_run_without_the_frozen_network_is_compared_with_the_network():
    scored = FakePrices()(user("alpha"))
    nan = np.full(len(scored.ids), np.nan)
    prices = Prices(bits=scored.prices.bits, network=scored.prices.network, frozen=nan)
    report = Report(ByteTokenizer())
    report.add(
        ScoredTrace(trace=scored.trace, ids=scored.ids, paid=scored.paid, prices=prices, bytes=scored.bytes)
    )
    assert report.finish().frozen == pytest.approx(scored.prices.network.sum())


def test_an_empty_report():
    report = Report(ByteTokenizer()).finish()
    assert report.newest(5) == [] and summary(report)["sessions"] == []


def test_memory_does_not_grow_with_the_stream():
    def stream(count):
        return [
            result("\n".join(f"line {at} {number} of words" for at in range(40))) for number in range(count)
        ]

    report = report_of(*stream(300), most_tokens=5000)
    (session,) = report.sessions.values()
    assert session.traces == 300 and not report._open
    assert sum(len(passage.data) for passage in session.shown(10**9)) <= 2 * report.text_each
    assert len(session.cells.all) <= 512 and len(report.cells.all) <= 512
    assert session.bytes == sum(cell.bytes for cell in session.cells.all) == report.bytes


def test_news_does_not_depend_on_when_traces_are_finished():
    traces = [user(f"name{number} is new") for number in range(30)]
    traces = [each for pair in zip(traces, traces[1:], strict=False) for each in pair]
    assert report_of(*traces).news == pytest.approx(report_of(*traces, most_tokens=400).news)
    assert report_of(*traces, most_tokens=1).news == 0, "finished at once"


def test_sessions_with_the_least_news_are_left_out():
    traces = []
    for number in range(12):
        name = f"s{number}"
        traces.append(user("marigold " * (number + 1) + f"w{number}", session=name))
        traces += [result("marigold", session=name)] * (number % 5)
    report = report_of(*traces, most_sessions=5)
    assert len(report.sessions) == 5 and report.left_out == 7
    assert report.traces == len(traces)
    assert all(each.news > 0 for each in report.sessions.values())
    assert summary(report)["sessions_left_out"] == 7


def test_a_session_that_comes_back_is_left_out_once():
    others = [user(f"marigold w{number}", session=f"s{number}") for number in range(12)]
    report = report_of(*others, user("marigold", session="s0"), *others, most_sessions=3, most_tokens=1)
    assert len(report.sessions) == 3 and report.left_out == 9


def test_many_open_sessions_are_not_looked_through_for_each_trace(monkeypatch):
    looked = []
    original = Report._drop_sessions
    monkeypatch.setattr(Report, "_drop_sessions", lambda self: (looked.append(1), original(self))[1])
    report_of(*(user(f"w{number}", session=str(number)) for number in range(200)), most_sessions=3)
    assert len(looked) < 9


def test_one_session_does_not_fill_the_list_of_all():
    traces = []
    for name in ("a", "b", "c", "d"):
        for number in range(12 if name == "a" else 2):
            traces.append(user(f"fact{name}{number}xyz", session=name))
        traces += [
            result(f"fact{name}{number}xyz", session=name) for number in range(12 if name == "a" else 2)
        ]
    named = [session.name for session, _ in report_of(*traces).newest(9)]
    assert named.count("a") == 3 and set(named) == {"a", "b", "c", "d"}


# --- what a page shows


def test_shown_text_is_the_newest_and_in_order():
    lines = [user(f"plain is the use of {number}" if number != 30 else "marigold") for number in range(60)]
    (session,) = report_of(*lines, result("marigold")).sessions.values()
    shown = session.shown(200)
    assert sum(len(passage.data) for passage in shown) <= 200
    assert any(b"marigold" in passage.data for passage in shown)
    numbers = [passage.trace.number for passage in shown]
    assert numbers == sorted(numbers)


def test_blocks_say_what_is_left_out():
    lines = [user(f"text{number}") for number in range(40)]
    (session,) = report_of(*lines).sessions.values()
    found = blocks(session, 100)
    skipped = sum(block.skipped for block in found)
    assert skipped + sum(block.trace is not None for block in found) == 40
    assert [block.skipped for block in blocks(session, 10**6)] == [0] * 40


def passage_of(data, levels=None, kind="tool_result"):
    text = text_of(data, 2.0)
    words = words_of(text)
    zeros = np.zeros(len(words.names))
    (passage,) = cut_passages(info(kind), text, words, zeros, zeros.astype(int))
    if levels is not None:
        passage.levels_B[:] = levels
    return passage


def test_segments_are_the_text_without_its_label():
    assert "".join(each.text for each in segments(passage_of(b"Tool result: Bash\nok\n\n"))) == "ok"
    assert (
        "".join(each.text for each in segments(passage_of(b"User: hello\n\n", kind="user_message")))
        == "hello"
    )
    call = passage_of(b'Tool call: Bash {"command":"ls"}\n\n', kind="tool_use")
    assert "".join(each.text for each in segments(call)) == '{"command":"ls"}'
    thought = passage_of(b"Assistant: <think>hm</think>\n\n", kind="thinking")
    assert "".join(each.text for each in segments(thought)) == "hm"
    assert segments(passage_of(b"Tool result: Bash\n\n")) == []
    patch = passage_of(b'Tool call: Bash "*** Begin Patch of x"\n\n', kind="tool_use")
    assert "".join(each.text for each in segments(patch)) == '"*** Begin Patch of x"', "no JSON object"
    unnamed = passage_of(b"Tool result:\nBash is here\n\n")
    assert "".join(each.text for each in segments(unnamed)) == "Bash is here"


def test_segments_have_whole_characters_and_no_escapes():
    data = "größe \x1b[31mred\x1b[0m 漢字".encode()
    levels = np.random.default_rng(0).integers(0, 7, len(data))
    found = segments(passage_of(data, levels))
    assert "".join(each.text for each in found) == "größe red 漢字"
    assert all(
        one.level != two.level for one, two in zip(found, found[1:], strict=False) if one.text and two.text
    ) or (len(found) < len(data))


def test_white_space_is_not_shaded():
    found = segments(passage_of(b"one\n    two  three", 3))
    assert [(each.text, each.level) for each in found] == [
        ("one", 3),
        ("\n    ", 0),
        ("two", 3),
        ("  ", 0),
        ("three", 3),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x00b\x1bc", r"a\x00b\x1bc"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200db", "a\\u200db"),
        ("\U000e0041", "\\U000e0041"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("tab\tline\n", "tab\tline\n"),
        ("\x7f\x9b", r"\x7f\x9b"),
    ],
)
def test_nothing_is_invisible(text, shown):
    assert visible_text(text) == shown


def test_names_and_amounts():
    assert label(info()) == "Bash result"
    assert label(info("tool_use", "mcp__x__y")) == "mcp__x__y call"
    assert label(info("thinking", "")) == "Thinking" and label(info("user_message", "")) == "User"
    assert (
        label(info("tool_result", "a\u202eb")) == "a\\u202eb result"
        and label(info("tool_use", "")) == "Tool call"
    )
    assert [amount(size) for size in (0, 999, 1000, 999_949, 5_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "999.9 kB",
        "5.0 MB",
    ]
    assert date_range(0, 0) == date_range(1e18, 1e18) == date_range(1.0, 1e300) == ""
    noon = 1_767_268_800.0
    assert re.fullmatch(r"1 Jan 2026, \d\d:\d\d–\d\d:\d\d", date_range(noon, noon + 60))
    assert date_range(noon, noon + 3 * 86400) == "1 Jan 2026 – 4 Jan 2026"


def test_subagents_and_times():
    spoke = AssistantMessage(meta=Meta(session="s", subagent="a", time=50.0), text="done")
    call = ToolUse(meta=Meta(session="s", time=20.0), name="Task", input={})
    (session,) = report_of(call, spoke).sessions.values()
    assert (session.first, session.last, session.subagents) == (20.0, 50.0, 1)


def test_cells_keep_the_sums():
    cells = Cells(most=8)
    for number in range(100):
        cells.add(
            Cell(bytes=number, paid=1.0, frozen=2.0, news=0.5, repeated=1, kind="a" if number < 60 else "b")
        )
    assert len(cells.all) <= 8
    total = sum(cells.all[1:], cells.all[0])
    assert (total.bytes, total.paid, total.frozen, total.news, total.repeated) == (4950, 100, 200, 50, 100)
    assert [cell.kind for cell in cells.all][0] == "a" and [cell.kind for cell in cells.all][-1] == "b"


def numbers_of(path):
    return [int(number) for number in re.findall(r"\d+", path)]


def test_drawings_stay_in_their_box():
    dice = np.random.default_rng(0)
    cells = [
        Cell(
            bytes=int(size),
            paid=size,
            frozen=2 * size,
            news=size % 7,
            repeated=int(size % 2) * int(size),
            kind=kind,
        )
        for size, kind in zip(dice.integers(0, 400, 300), dice.choice(["a", "b"], 300), strict=True)
    ]
    drawing = draw(cells, 100)
    paths = [
        drawing.paid,
        drawing.frozen,
        drawing.repeated,
        drawing.news,
        *(path for _, path in drawing.kinds),
    ]
    assert all(paths) and all(0 <= number <= WIDTH for path in paths for number in numbers_of(path))
    assert drawing.top == 2.0 and set(dict(drawing.kinds)) == {"a", "b"}
    assert draw(cells, 100) == drawing


@pytest.mark.parametrize(
    "cells", [[], [Cell(bytes=0, paid=0, frozen=0)], [Cell(bytes=5, paid=50, frozen=60, kind="a")]]
)
def test_drawings_of_almost_nothing(cells):
    drawing = draw(cells, 100)
    assert drawing.top > 0 and drawing.paid.startswith(f"M0 {HEIGHT}")
