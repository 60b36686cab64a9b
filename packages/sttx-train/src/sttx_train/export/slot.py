"""Writes a tuned state into a slot file of a llama.cpp server, by replacing values in one it has just saved.

The server saves what a slot holds after a prompt. From a slot saved after the end-of-text token alone, this
file computes where each layer's numbers are: it finds the blocks whose size and values are those of our own
model after that token. It writes in their places what the model holds when it starts from the state. So a
slot of another model, another prompt or another layout is refused, and nothing else in the file changes.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from sttx_core.errors import ModelError, UsageError
from sttx_core.foreign_files import read_at_most
from sttx_core.os_errors import explain
from sttx_core.own_files import make_private_folder, replacing_file
from sttx_train.architectures import refuse_inner_steps, require_x070
from sttx_train.export.state import Exported, injected_note
from sttx_train.formats import LoadedModel, TunedState
from sttx_train.formats.state import OPENING
from sttx_train.rwkv7 import RecurrentState

_MOST_BYTES = 1 << 31
_NEAR = (
    0.05  # relative distance up to which a block is taken for ours; a quantized model is near, no other is
)
_HOW = "save one after the prompt [0], as docs/export.md says"


def export_slot(
    state: TunedState, loaded: LoadedModel, slot: str | os.PathLike[str], out: str | os.PathLike[str]
) -> Exported:
    """Write a slot file that starts from a tuned state.

    Restored, it holds one token, the end of text; a prompt must begin with it to continue from the state.

    Args:
        state: the state and its identity.
        loaded: the model that the server runs, and that the state was learned with.
        slot: a file that the server has just saved after the prompt ``[0]`` alone.
        out: the file to write.

    Raises:
        UsageError: the state is of another shape, or the model is not RWKV-7.
        ModelError: the slot cannot be read, or is of another model, prompt or layout.
    """
    require_x070(loaded.model.config, "slots are written for RWKV-7 alone, so export with --to state-pth")
    refuse_inner_steps(loaded.model.config, "which llama.cpp does not compute: export with --to state-pth")
    path, data = Path(out), _read(Path(slot))
    shape = RecurrentState.zeros(loaded.model.config).wkv[:, 0].shape
    if state.s0.shape != shape:
        raise UsageError(f"the state is {list(state.s0.shape)}, and this model needs {list(shape)}")
    before, after = _after_start(loaded, None), _after_start(loaded, state.s0)
    if state.metadata.get(OPENING) == "text":
        after = RecurrentState.zeros(loaded.model.config).inject(state.s0)
    written = bytearray(data)
    for expected, new in zip(_blocks(before), _blocks(after), strict=True):
        at = _place(data, expected, str(slot))
        written[at : at + new.nbytes] = new.tobytes()
    make_private_folder(path.parent)
    with replacing_file(path) as aside:
        aside.write_bytes(written)
    return Exported(
        kind="llama-slot",
        out=path,
        files=(path,),
        identity=dict(state.metadata),
        notes=injected_note(state),
    )


def _read(slot: Path) -> bytes:
    try:
        return read_at_most(slot, _MOST_BYTES)
    except OSError as error:
        raise ModelError(f"cannot read {str(slot)!r}: {explain(error)}") from error


def _after_start(loaded: LoadedModel, s0: torch.Tensor | None) -> RecurrentState:
    """Return what the model holds after the end-of-text token, read from a state or from none."""
    start = RecurrentState.zeros(loaded.model.config, device=loaded.model.device, dtype=loaded.model.dtype)
    if s0 is not None:
        start = start.inject(s0.to(start.wkv.device))
    ids = torch.tensor([[loaded.tokenizer.eot_id]], device=loaded.model.device)
    with torch.inference_mode():
        return loaded.model(ids, start)[1]


def _blocks(state: RecurrentState) -> list[np.ndarray]:
    """Return a server's blocks in float32: for each layer both shifts, then for each layer its matrices."""
    shifts = torch.cat([state.att_shift[:, 0], state.ffn_shift[:, 0]], dim=-1)
    layers = [*shifts, *state.wkv[:, 0].flatten(1)]
    return [layer.float().cpu().numpy() for layer in layers]


def _place(data: bytes, expected: np.ndarray, slot: str) -> int:
    """Return where a block is: after its own size in bytes, with nearly the expected values."""
    size, places = expected.nbytes, []
    mark = size.to_bytes(8, "little")
    at = data.find(mark)
    while at >= 0:
        start = at + len(mark)
        if start + size <= len(data) and _is_near(np.frombuffer(data, "<f4", expected.size, start), expected):
            places.append(start)
        at = data.find(mark, at + 1)
    if len(places) != 1:
        raise ModelError(
            f"{slot!r} holds another model or prompt than the end-of-text token, or the layout of an unknown "
            f"llama.cpp: {_HOW}"
        )
    return places[0]


def _is_near(found: np.ndarray, expected: np.ndarray) -> bool:
    distance = np.linalg.norm(found.astype(np.float64) - expected)
    return bool(distance <= _NEAR * np.linalg.norm(expected))
