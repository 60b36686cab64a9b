"""Talk that is written twice, or only by the queue, is read once: replays and queued prompts."""

import json

import pytest

from sttx_ccsniff import open_source
from sttx_ccsniff.claude_code.parser import SessionParser
from sttx_ccsniff.report import SourceReport
from sttx_ccsniff.seen import Seen
from sttx_core.traces import AssistantMessage, UserMessage


def said(path):
    """Return the texts of a file's messages in order, and the report."""
    with open_source(path, say=lambda message: None) as source:
        traces = list(source)
    return [trace.text for trace in traces if isinstance(trace, (UserMessage, AssistantMessage))], (
        source.report.skipped
    )


# Replays


def driven(kind, content, uuid, **fields):
    """Make a record as the programs that drive Claude Code write it."""
    message = {"role": kind, "content": content}
    return {"type": kind, "message": message, "session_id": "run", "uuid": uuid, **fields}


def test_a_replay_is_skipped_if_its_message_was_read(session_file):
    blocks = [{"type": "text", "text": "Prune the pear"}]
    records = [
        driven("user", "Prune the pear", "1"),
        driven("user", blocks, "2", isReplay=True),
        driven("user", "Prune the pear", "3"),
        driven("user", "Prune the pear", "4", is_replay=True),
        driven("user", "Prune the apple", "5", isReplay=True, session_id="other"),
        driven("user", "Prune the pear", "6", isReplay=True, session_id="other"),
    ]
    texts, skipped = said(session_file("audit.jsonl", *records))
    assert texts == ["Prune the pear", "Prune the pear", "Prune the apple", "Prune the pear"]
    assert skipped == {"replay": 2}


def test_replays_without_their_message_or_before_it_are_one_message(session_file):
    records = [
        driven("user", "Water the pear", "1", isReplay=True),
        driven("user", "Water the pear", "2", isReplay=True),
        driven("user", "Water the pear", "3"),
        driven("user", "Water the pear", "4"),
    ]
    texts, skipped = said(session_file("audit.jsonl", *records))
    assert texts == ["Water the pear", "Water the pear"]
    assert skipped == {"replay": 2}


def test_replayed_results_and_calls_are_skipped(session_file):
    call = [{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}]
    result = [{"type": "tool_result", "tool_use_id": "t1", "content": "a.py"}]
    records = [
        driven("assistant", call, "1"),
        driven("user", result, "2"),
        driven("assistant", call, "3", isReplay=True),
        driven("user", result, "4", isReplay=True),
    ]
    with open_source(session_file("audit.jsonl", *records)) as source:
        assert [type(trace).__name__ for trace in source] == ["ToolUse", "ToolResult"]
    assert source.report.skipped == {"replay": 2}


# Queued prompts


def queued(operation, content=None, **fields):
    made = {"type": "queue-operation", "operation": operation, "sessionId": "s"}
    made["timestamp"] = "2026-02-02T09:00:00.500Z"
    return made | ({} if content is None else {"content": content}) | fields


def attached(record, prompt):
    return record("attachment", attachment={"type": "queued_command", "prompt": prompt})


ANSWER = [{"type": "text", "text": "Yes."}]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([("enqueue", "and the roots"), ("remove", "and the roots")], ["and the roots", "Yes."]),
        ([("remove", "and the roots")], ["and the roots", "Yes."]),
        ([("enqueue", "a"), ("enqueue", "b"), ("remove", "a"), ("remove", "b")], ["a", "b", "Yes."]),
        ([("enqueue", "and the roots"), ("popAll", "and the roots")], ["Yes."]),
        ([("enqueue", "and the roots"), ("dequeue", None)], ["Yes."]),
        ([("enqueue", "and the roots"), ("remove", None)], ["Yes."]),
        ([("remove", "<task-notification>done</task-notification>")], ["Yes."]),
        ([("remove", [{"type": "text", "text": "look"}, {"type": "image"}])], ["look\n[image]", "Yes."]),
    ],
)
def test_a_removed_prompt_is_read_before_the_next_answer(session_file, record, operations, expected):
    lines = [queued(*operation) for operation in operations]
    texts, skipped = said(session_file("s.jsonl", *lines, record("assistant", ANSWER)))
    assert texts == expected
    assert sum(skipped.values()) >= len(lines) - len(expected) + 1


@pytest.mark.parametrize("reason", ["absorbed_mid_turn", "cancelled"])
def test_a_prompt_that_was_removed_for_another_reason_is_not_read(session_file, record, reason):
    texts, _ = said(session_file("s.jsonl", queued("remove", "no", reason=reason)))
    assert texts == (["no"] if reason == "absorbed_mid_turn" else [])


def test_a_prompt_that_another_record_repeats_is_read_once(session_file, record):
    enqueue, remove, answer = queued("enqueue", "go"), queued("remove", "go"), record("assistant", ANSWER)
    attachment = attached(record, "go")
    for lines in (
        [enqueue, remove, attachment, answer],
        [enqueue, attachment, remove, answer],
        [enqueue, remove, answer, attachment],
        [remove, record(content=[{"type": "text", "text": "go"}]), answer],
        [enqueue, attached(record, [{"type": "text", "text": "go"}, {"type": "image"}]), remove, answer],
    ):
        texts, _ = said(session_file("s.jsonl", *lines))
        assert sorted(text.partition("\n")[0] for text in texts) == ["Yes.", "go"]


def test_a_queued_command_of_another_kind_is_not_read(session_file, record):
    attachment = record(
        "attachment", attachment={"type": "queued_command", "prompt": "ls", "commandMode": "bash"}
    )
    lines = [queued("enqueue", "ls"), queued("remove", "ls"), attachment, record("assistant", ANSWER)]
    texts, skipped = said(session_file("s.jsonl", *lines))
    assert texts == ["Yes."] and skipped == {"queue-operation": 2, "bash": 1}


def test_the_same_words_are_read_again_when_they_are_queued_again(session_file, record):
    once = [queued("enqueue", "go"), attached(record, "go"), queued("remove", "go")]
    again = [queued("enqueue", "go"), queued("remove", "go", timestamp="2026-02-02T09:00:09Z")]
    texts, _ = said(session_file("s.jsonl", record(content="go"), *once, *again))
    assert texts == ["go", "go", "go"]


def test_a_copied_queue_is_read_once(session_file, record):
    lines = [queued("enqueue", "go"), queued("remove", "go")]
    session_file("s.jsonl", record(content="Hi"), *lines)
    path = session_file(
        "b.jsonl", *(line | {"sessionId": "b", "forkedFrom": {"sessionId": "s"}} for line in lines)
    )
    texts, skipped = said(path.parent)
    assert texts == ["Hi", "go"] and skipped["duplicate queued prompt"] == 1


def test_a_parser_can_stop_between_any_two_records(record):
    lines = [
        queued("enqueue", "go"),
        queued("remove", "go"),
        record("assistant", ANSWER),
        attached(record, "go"),
    ]
    seen, state, texts = Seen(), None, []
    for line in lines:
        parser = SessionParser("s.jsonl", SourceReport(), seen)
        if state is not None:
            parser.load_state_dict(json.loads(state))
        texts += [trace.text for trace in parser.feed(json.dumps(line).encode())]
        assert parser.undecided == (line is lines[1])
        state = json.dumps(parser.state_dict())
    assert texts == ["go", "Yes."]
