"""Trace types, tokenizers, phrases and replay: the decisions of sttx, without tensors.

This is the public face of the package. Importing it loads neither torch nor numpy: `ReplayBuffer` and
`Drawn`, which need numpy, are loaded at their first use. So is `HyperNetwork`, which needs `sttx-core[torch]`
and is therefore not in `__all__`. The conformance checks are in `sttx_core.checks`.
"""

from typing import TYPE_CHECKING

from sttx_core.environment import log_dir
from sttx_core.errors import (
    CheckpointError,
    DataError,
    ModelError,
    SourceError,
    SttxError,
    SttxWarning,
    UsageError,
)
from sttx_core.eventlog import EventLog
from sttx_core.lazy import lazy_names
from sttx_core.phrases import Choice, DynamicTokenizer, Phrase, PhraseConfig, PhraseStats
from sttx_core.render import Part, render, render_parts
from sttx_core.tokenizers import (
    AngleTokenizer,
    AnyTokenizer,
    ByteTokenizer,
    IntegerTokenizer,
    Tokenizer,
    TrieTokenizer,
    ValueTokenizer,
    create_vocab_file,
    require_text,
    tokenizer_from_spec,
)
from sttx_core.traces import (
    AssistantMessage,
    Meta,
    Other,
    Pair,
    SessionEnd,
    Thinking,
    ToolResult,
    ToolUse,
    Trace,
    UserMessage,
    trace_type,
)

if TYPE_CHECKING:
    from sttx_core.hypernet import HyperNetwork as HyperNetwork
    from sttx_core.pairs import PairMaker, to_pairs
    from sttx_core.replay import Drawn, ReplayBuffer

__all__ = [
    "AngleTokenizer",
    "AnyTokenizer",
    "AssistantMessage",
    "ByteTokenizer",
    "CheckpointError",
    "Choice",
    "DataError",
    "Drawn",
    "DynamicTokenizer",
    "EventLog",
    "IntegerTokenizer",
    "Meta",
    "ModelError",
    "Other",
    "Pair",
    "PairMaker",
    "Part",
    "Phrase",
    "PhraseConfig",
    "PhraseStats",
    "ReplayBuffer",
    "SessionEnd",
    "SourceError",
    "SttxError",
    "SttxWarning",
    "Thinking",
    "Tokenizer",
    "ToolResult",
    "ToolUse",
    "Trace",
    "TrieTokenizer",
    "UsageError",
    "UserMessage",
    "ValueTokenizer",
    "create_vocab_file",
    "log_dir",
    "render",
    "render_parts",
    "require_text",
    "to_pairs",
    "tokenizer_from_spec",
    "trace_type",
]

__getattr__ = lazy_names(
    __name__,
    {
        "hypernet": ["HyperNetwork"],
        "pairs": ["PairMaker", "to_pairs"],
        "replay": ["Drawn", "ReplayBuffer"],
    },
)
