"""What was learned as files of other programs: tuned states, and models with learned weights merged in."""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.export.gguf import require_gguf, write_gguf
    from sttx_train.export.kinds import (
        DTYPES,
        KINDS,
        MODEL_KINDS,
        STATE_KINDS,
        ExportDtype,
        Kind,
        ModelKind,
        StateKind,
        check_out,
        chosen_dtype,
        model_kind,
        state_kind,
        suffix_of,
    )
    from sttx_train.export.model import Merged, export_model, model_to_export
    from sttx_train.export.slot import export_slot
    from sttx_train.export.state import Exported, export_state, state_to_export

__all__ = [
    "DTYPES",
    "ExportDtype",
    "Exported",
    "KINDS",
    "Kind",
    "MODEL_KINDS",
    "Merged",
    "ModelKind",
    "STATE_KINDS",
    "StateKind",
    "check_out",
    "chosen_dtype",
    "export_model",
    "export_slot",
    "export_state",
    "model_kind",
    "model_to_export",
    "require_gguf",
    "state_kind",
    "state_to_export",
    "suffix_of",
    "write_gguf",
]

__getattr__ = lazy_names(
    __name__,
    {
        "gguf": ["require_gguf", "write_gguf"],
        "kinds": [
            "DTYPES",
            "ExportDtype",
            "KINDS",
            "Kind",
            "MODEL_KINDS",
            "ModelKind",
            "STATE_KINDS",
            "StateKind",
            "check_out",
            "chosen_dtype",
            "model_kind",
            "state_kind",
            "suffix_of",
        ],
        "model": ["Merged", "export_model", "model_to_export"],
        "slot": ["export_slot"],
        "state": ["Exported", "export_state", "state_to_export"],
    },
)
