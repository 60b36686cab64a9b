"""Takes off what training programs wrap around a model: dictionaries around its tensors, prefixes of names.

Whatever is taken off is said. Knows the names of embedding and head, but no files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sttx_core.errors import ModelError
from sttx_core.foreign_files import shown
from sttx_train.formats.pickled import FOREIGN, StoredTensor
from sttx_train.formats.tensorinfo import AnyTensor

_ENTRIES = ("state_dict", "model_state_dict", "model", "module")
"""Under what name training programs save a model beside the state of its training."""
_DEEPEST = 4
_WRAPPERS = frozenset(
    ("_orig_mod", "_forward_module", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)
"""Parts of names that torch and Lightning add when they wrap a module, at any depth."""
_ANCHORS = (
    "emb.weight",
    "model.embeddings.weight",
    "rwkv.embeddings.weight",
    "head.weight",
    "lm_head.weight",
)
"""Names at the top of a model, in BlinkDL's and Hugging Face's naming; what precedes them is a prefix."""
_BARE = "embeddings.weight"  # of Hugging Face's model without its head
_COUNTERS = frozenset(("n_averaged",))  # of torch's averaged models


def unwrap_content(content: Any, source: str) -> tuple[dict[str, StoredTensor], tuple[str, ...]]:
    """Return the tensors of a file's content, and what was left out.

    Args:
        content: what a pickle describes; a dictionary of tensors, or one that contains such a dictionary.
        source: the file, for messages.

    Raises:
        ModelError: it holds no dictionary of tensors, or several.
    """
    path: list[str] = []
    left: list[str] = []
    for _ in range(_DEEPEST):
        if not isinstance(content, dict) or any(
            isinstance(value, StoredTensor) for value in content.values()
        ):
            break
        inner = [name for name in _ENTRIES if isinstance(content.get(name), dict)]
        if len(inner) > 1:
            raise ModelError(
                f"{source!r} holds {inner[0]!r} and {inner[1]!r}, and either may be the model: "
                "save one dictionary of tensors"
            )
        if not inner:
            break
        path += inner
        left += [shown(name) for name in content if name != inner[0]]
        content = content[inner[0]]
    _check_tensors(content, source)
    if not path:
        return content, ()
    note = f"the tensors are those of the entry {'.'.join(path)!r} of the file"
    return content, (note + (f"; not used: {_some(left)}" if left else ""),)


def _check_tensors(content: Any, source: str) -> None:
    """Raise a ModelError unless content is a dictionary of tensors."""
    advice = "give a file of a model's tensors, such as torch.save(model.state_dict(), FILE) writes"
    if not isinstance(content, dict):
        raise ModelError(f"{source!r} is not a dictionary of tensors, as RWKV's .pth files are: {advice}")
    for name, value in content.items():
        if value is FOREIGN:
            raise ModelError(
                f"{source!r} is damaged, or its {shown(name)} makes it hold more than tensors, "
                "which sttx does not load: download it again"
            )
        if not isinstance(value, StoredTensor):
            raise ModelError(
                f"{source!r} is not a dictionary of tensors, as RWKV's .pth files are, "
                f"because of its entry {shown(name)}: {advice}"
            )


def unwrap_names(
    tensors: Mapping[str, AnyTensor], source: str
) -> tuple[dict[str, AnyTensor], tuple[str, ...]]:
    """Return the tensors without the prefixes that wrapping modules gave to their names, and a note on those.

    Raises:
        ModelError: two tensors would have the same name.

    >>> from sttx_train.formats.tensorinfo import TensorInfo
    >>> weight = TensorInfo((2, 3), "float32")
    >>> names, notes = unwrap_names({"module._orig_mod.emb.weight": weight}, "x.pth")
    >>> [*names], notes
    (['emb.weight'], ("removed from tensor names: 'module.', '_orig_mod.'",))
    """
    named: dict[str, AnyTensor] = {}
    taken: dict[str, None] = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        taken |= dict.fromkeys(f"{part}." for part in parts if part in _WRAPPERS)
        short = ".".join(part for part in parts if part not in _WRAPPERS)
        if short in named:
            raise ModelError(
                f"{source!r} has two tensors {shown(short)}: save it again without wrapping modules"
            )
        named[short] = tensor
    counters = sorted(_COUNTERS & named.keys())
    for counter in counters:
        del named[counter]
    if prefix := _prefix(named):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
        taken |= {prefix: None}
    if _BARE in named and any(name.startswith("layers.") for name in named):
        named = {
            name if name.startswith("lm_head.") else f"model.{name}": tensor for name, tensor in named.items()
        }
    notes = (f"removed from tensor names: {_some(map(shown, taken))}",) if taken else ()
    return named, (*notes, f"not used: {_some(map(shown, counters))}") if counters else notes


def _prefix(names: Collection[str]) -> str:
    """Return what precedes every name before it is one of a model's; "" if nothing does."""
    if any(anchor in names for anchor in _ANCHORS):
        return ""
    for anchor in _ANCHORS:
        found = [name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")]
        if len(found) == 1 and all(name.startswith(found[0]) for name in names):
            return found[0]
    return ""


def _some(words: Iterable[str], most: int = 4) -> str:
    words = list(words)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
