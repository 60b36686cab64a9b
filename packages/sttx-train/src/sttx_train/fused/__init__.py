"""One token of each row through all layers in one compiled call: how a CPU reads token by token.

Every sum has a fixed order, and nothing depends on the other rows, so a row gives the same bits alone, in any
batch and with any number of threads. Everything is made of operations that IEEE 754 rounds exactly, so it
gives the same bits on every machine too.

Knows the equations of RWKV-7 (`sttx_train.rwkv7.model` has them in torch) and the names of its parameters;
neither torch modules nor what a token is read for.
"""

from typing import TYPE_CHECKING

from sttx_core.lazy import lazy_names

if TYPE_CHECKING:
    from sttx_train.fused.entry import step_is_compiled
    from sttx_train.fused.step import FusedStep, StepChoice, choose_step

__all__ = ["FusedStep", "StepChoice", "choose_step", "step_is_compiled"]

__getattr__ = lazy_names(
    __name__, {"entry": ["step_is_compiled"], "step": ["FusedStep", "StepChoice", "choose_step"]}
)
