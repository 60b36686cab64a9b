"""On real sessions of Claude Code, Codex and OpenCode, where present, the counts are exact.

The expected counts come from a reader that shares no code with ours.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from sttx_ccsniff import open_source
from sttx_core.traces import trace_type


@pytest.fixture(scope="module")
def files():
    """Return real session files, which some machines have beside the checkout, never in it."""
    beside = [folder / "shared" for folder in Path(__file__).parents]
    found = [
        path
        for shared in beside
        for name in ("traces", "traces-wide")
        for path in sorted((shared / name).rglob("*.jsonl"))
    ]
    return found or pytest.skip("no folder of real sessions beside this checkout")


def objects(path):
    """Yield the JSON objects in a file of lines, several on one line too."""
    decoder = json.JSONDecoder(strict=False)
    for line in path.read_text("utf-8", "replace").split("\n"):
        text = line.strip("\0 \r\t")
        while text:
            try:
                value, end = decoder.raw_decode(text)
            except ValueError:
                break
            yield value
            text = text[end:].strip()


def expected_of_claude_code(records):
    count, seen, tokens = Counter(), set(), {}
    for record in records:
        message = record.get("message") or {}
        if isinstance(message.get("usage"), dict) and message.get("model") != "<synthetic>":
            most = tokens.setdefault(message["id"], Counter())
            most["output"] = max(most["output"], message["usage"].get("output_tokens") or 0)
        if record.get("uuid", object()) in seen:
            continue
        seen.add(record.get("uuid"))
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            kind = block["type"]
            is_use = kind in ("tool_use", "server_tool_use", "mcp_tool_use")
            count["tool_use" if is_use else "tool_result" if kind.endswith("tool_result") else kind] += 1
            said = kind == "text" and record["type"] == "assistant" and block["text"].strip()
            odd = record.get("isApiErrorMessage") or message.get("model") == "<synthetic>"
            count["assistant_message"] += bool(said and not odd)
            count["full thinking"] += kind == "thinking" and bool(block["thinking"].strip())
    return {
        "tool_use": count["tool_use"],
        "tool_result": count["tool_result"],
        "assistant_message": count["assistant_message"],
        "thinking": count["full thinking"],
        "output_tokens": sum(most["output"] for most in tokens.values()),
    }


def expected_of_codex(records):
    count, output = Counter(), 0
    for record in records:
        payload = record.get("payload") or {}
        kind = payload.get("type", "") if record["type"] == "response_item" else ""
        count["tool_use"] += kind.endswith("_call")
        count["tool_result"] += kind.endswith("_output")
        count["assistant_message"] += kind == "message" and payload["role"] == "assistant"
        if payload.get("type") == "token_count" and payload.get("info"):
            output = payload["info"]["total_token_usage"]["output_tokens"]
    names = ("tool_use", "tool_result", "assistant_message")
    return {name: count[name] for name in names} | {"output_tokens": output}


def expected_of_opencode(text):
    messages = json.loads(text[text.index("{") :])["messages"]
    parts = [(one["info"]["role"], part) for one in messages for part in one["parts"]]
    kinds = Counter(f"{role} {part['type']}" for role, part in parts if part.get("text") != "")
    tokens = [one["info"]["tokens"] for one in messages if "tokens" in one["info"]]
    return {
        "tool_use": kinds["assistant tool"],
        "tool_result": kinds["assistant tool"],
        "assistant_message": sum(
            role == "assistant" and part["type"] == "text" and bool(part["text"].strip())
            for role, part in parts
        ),
        "thinking": sum(part["type"] == "reasoning" and bool(part["text"].strip()) for _, part in parts),
        "output_tokens": sum(one["output"] + one["reasoning"] for one in tokens),
        "cache_read_input_tokens": sum(one["cache"]["read"] for one in tokens),
    }


def test_the_counts_of_every_file(files):
    formats = Counter()
    for path in files:
        with open_source(path, redact=False, say=lambda message: None) as source:
            types = Counter(trace_type(trace) for trace in source)
        report = source.report
        [name] = report.formats
        formats[name] += 1
        if name == "claude-code":
            expected = expected_of_claude_code(objects(path))
        elif name == "codex":
            expected = expected_of_codex(objects(path))
        elif name == "opencode-export":
            expected = expected_of_opencode(path.read_text("utf-8"))
        else:
            expected = dict.fromkeys(types, 0)
        tokens = Counter()
        for used in report.usage.values():
            tokens.update(used)
        assert {key: types[key] + tokens[key] for key in expected} == expected, path
    assert formats["claude-code"] and set(formats) <= {"claude-code", "codex", "opencode-export", "not-read"}
