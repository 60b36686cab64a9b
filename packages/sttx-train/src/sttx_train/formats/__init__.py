"""Models, vocabularies and tuned states on disk: ours, Hugging Face's, BlinkDL's."""

from sttx_train.formats.detect import detect_config, detect_version
from sttx_train.formats.state import TunedState, load_state, save_state
from sttx_train.formats.store import EMBEDDED, Format, LoadedModel, check_destination, load_model, save_model
from sttx_train.formats.vocabulary import tokenizer_for

__all__ = [
    "EMBEDDED",
    "Format",
    "LoadedModel",
    "TunedState",
    "check_destination",
    "detect_config",
    "detect_version",
    "load_model",
    "load_state",
    "save_model",
    "save_state",
    "tokenizer_for",
]
