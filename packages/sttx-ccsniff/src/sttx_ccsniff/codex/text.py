"""Extracts the text of Codex's items: what the person typed, what a tool returned, what the model thought.

Codex adds much in the user's role: the environment, AGENTS.md, notices of aborted turns and of sub-agents
that ended. These texts say nothing about the person, so they are counted and dropped.
"""

import re
from typing import Any

import orjson

from sttx_ccsniff.parse.content import placeholder, text_of, url_placeholder

_INJECTED = re.compile(
    r"\s*<(environment_context|environments_context|user_instructions|turn_aborted|user_shell_command|user_action"
    r"|skill|skills_instructions|plugins_instructions|apps_instructions|subagent_notification|hook_prompt"
    r"|collaboration_mode|personality_spec|model_switch|realtime_conversation|goal_context|INSTRUCTIONS"
    r"|permissions instructions|network_context|recommended_plugins)\b[^>]{0,200}>"
)
_NAMES = {
    "turn_aborted": "interruption",
    "user_shell_command": "command",
    "INSTRUCTIONS": "user instructions",
}
_IMAGE_LABEL = re.compile(r"\s*(?:<image\b[^>]{0,200}>|</image>)\s*")
_AGENTS_FILE = re.compile(r"\s*# AGENTS\.md instructions\b")
_SUMMARY = re.compile(
    r"\s*(?:Another language model started to solve this problem"
    r"|You are performing a CONTEXT CHECKPOINT COMPACTION)"
)
_CONTEXT = re.compile(r"\s*# (?:Context from my IDE setup|Files mentioned by the user)")
_REQUEST = "## My request for Codex:"
_EXIT_CODE = re.compile(r"(?:Exit code|Process exited with code):? (-?\d{1,9})\b")
_HEAD = 400
"""Characters at the start of a shell's result that are searched for its exit code."""


def part_text(part: Any) -> tuple[str, str]:
    """Return the text of one part of a message's content, or "" and the reason why it has none.

    >>> part_text({"type": "input_text", "text": "Hi"}), part_text({"type": "output_text", "text": " "})
    (('Hi', ''), ('', 'empty text'))
    >>> part_text({"type": "input_image", "image_url": "data:image/png;base64,AAAA"})[0]
    '[image image/png 3 bytes]'
    """
    if not isinstance(part, dict):
        text = text_of(part)
    elif part.get("type") == "input_image":
        text = _picture(part)
    elif isinstance(part.get("text"), str):
        text = part["text"]
    else:
        text = text_of(part.get("refusal")) or placeholder(part)
    return (text, "") if text and not text.isspace() else ("", "empty text")


def typed_text(text: str) -> tuple[str, str]:
    r"""Return what the person typed, or "" and the reason why the text is not theirs.

    >>> typed_text("Fix it"), typed_text("<environment_context>\n<cwd>/x</cwd>\n</environment_context>")
    (('Fix it', ''), ('', 'environment context'))
    >>> typed_text("# Context from my IDE setup:\n- a.py\n## My request for Codex:\nFix it")
    ('Fix it', '')
    """
    if _CONTEXT.match(text) and _REQUEST in text:
        text = text.split(_REQUEST, 1)[1].strip()
        return (text, "") if text else ("", "empty text")
    if match := _INJECTED.match(text):
        return "", _NAMES.get(match[1], match[1].replace("_", " "))
    if _AGENTS_FILE.match(text):
        return "", "user instructions"
    if _SUMMARY.match(text):
        return "", "compaction summary"
    if _IMAGE_LABEL.fullmatch(text):
        return "", "image label"
    return text, ""


def mail_in(text: str) -> dict[str, Any] | None:
    """Return the message between sub-agents that some versions wrote as JSON in an assistant's message.

    Returns None if the text is not such a message.

    >>> mail_in('{"author":"/root","recipient":"/a","content":"Go"}'), mail_in("{}")
    ({'author': '/root', 'recipient': '/a', 'content': 'Go'}, None)
    """
    if not text.startswith('{"author":'):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if "recipient" in value and "content" in value else None


def mail_text(content: Any) -> str:
    r"""Return the text of a message between sub-agents, without its address lines; "" if it is encrypted.

    >>> mail_text([{"type": "input_text", "text": "Message Type: NEW_TASK\nSender: /root\nPayload:\nGo"}])
    'Go'
    """
    parts = content if isinstance(content, list) else [{"text": text_of(content)}]
    text = "\n".join(part["text"] for part in parts if _has_text(part))
    if text.startswith("Message Type:"):
        text = text.partition("Payload:\n")[2] or text
    return text.strip()


def reasoning_text(item: dict[str, Any]) -> str:
    r"""Return the model's thinking: the original text if it is stored, else its summary.

    >>> reasoning_text({"summary": [{"type": "summary_text", "text": "a"}, {"text": "b"}]})
    'a\n\nb'
    """
    for key in ("content", "summary"):
        parts = item.get(key)
        words = [part["text"] for part in parts if _has_text(part)] if isinstance(parts, list) else []
        if any(word.strip() for word in words):
            return "\n\n".join(words)
    return ""


def output_text(output: Any) -> str:
    """Return the text of a tool's output: a string, a list of parts, or an object with one of them.

    Early versions wrote a shell's output as JSON text together with its exit code; only the output is
    returned.

    >>> output_text('{"output":"ok","metadata":{"exit_code":0}}'), output_text({"content": "no"})
    ('ok', 'no')
    """
    wrapped = _shell_json(output)
    if wrapped is not None:
        return text_of(wrapped["output"])
    if isinstance(output, dict) and "content" in output:
        output = output["content"]
    if isinstance(output, list):
        return "\n".join(_output_part(part) for part in output)
    return text_of(output)


def error_in(output: Any) -> bool:
    r"""Return whether a tool's output reports a failure.

    >>> error_in("Exit code: 1\nWall time: 0.1 seconds\nOutput:\n"), error_in("Exit code: 0\nOutput:\n")
    (True, False)
    """
    wrapped = _shell_json(output)
    if wrapped is not None:
        metadata = wrapped.get("metadata")
        code = metadata.get("exit_code") if isinstance(metadata, dict) else None
        return type(code) is int and code != 0
    if isinstance(output, dict):
        return output.get("success") is False
    if isinstance(output, list) and output:
        output = output[0].get("text") if isinstance(output[0], dict) else None
    if not isinstance(output, str):
        return False
    match = _EXIT_CODE.search(output[:_HEAD].split("Output:\n", 1)[0])
    return match is not None and int(match[1]) != 0


def subagent_in(output: Any) -> str:
    """Return the sub-agent (its thread) that the output of a call names; "" if none.

    >>> subagent_in('{"agent_id":"t","nickname":"Ada"}'), subagent_in("no")
    ('t', '')
    """
    try:
        value = orjson.loads(output) if isinstance(output, str) and output.startswith("{") else None
    except orjson.JSONDecodeError:
        value = None
    return text_of(value.get("agent_id")) if isinstance(value, dict) else ""


def _shell_json(output: Any) -> dict[str, Any] | None:
    if not isinstance(output, str) or not output.startswith('{"output":'):
        return None
    try:
        value = orjson.loads(output)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value.get("metadata"), dict) else None


def _output_part(part: Any) -> str:
    return part_text(part)[0] if isinstance(part, dict) else text_of(part)


def _picture(part: dict[str, Any]) -> str:
    url = part.get("image_url")
    return url_placeholder("image", url.get("url") if isinstance(url, dict) else url)


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)
