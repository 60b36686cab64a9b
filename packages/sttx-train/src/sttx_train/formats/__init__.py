"""Models, vocabularies and tuned states on disk: ours, Hugging Face's, BlinkDL's."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.formats.detect import detect_config, detect_version
    from sttx_train.formats.locate import EMBEDDED, STATE_SUFFIXES
    from sttx_train.formats.state import TunedState, load_state, save_state
    from sttx_train.formats.store import LoadedModel, check_destination, load_model, save_model
    from sttx_train.formats.tokenizer_json import HuggingFaceTokenizer, load_tokenizer
    from sttx_train.formats.vocabulary import numbered_as, tokenizer_for
    from sttx_train.formats.weights import Format

__all__ = [
    "EMBEDDED",
    "Format",
    "HuggingFaceTokenizer",
    "LoadedModel",
    "STATE_SUFFIXES",
    "TunedState",
    "check_destination",
    "detect_config",
    "detect_version",
    "load_model",
    "load_state",
    "load_tokenizer",
    "numbered_as",
    "save_model",
    "save_state",
    "tokenizer_for",
]

__getattr__ = lazy_names(
    __name__,
    {
        "detect": ["detect_config", "detect_version"],
        "locate": ["EMBEDDED", "STATE_SUFFIXES"],
        "state": ["TunedState", "load_state", "save_state"],
        "store": ["LoadedModel", "check_destination", "load_model", "save_model"],
        "tokenizer_json": ["HuggingFaceTokenizer", "load_tokenizer"],
        "vocabulary": ["numbered_as", "tokenizer_for"],
        "weights": ["Format"],
    },
)
