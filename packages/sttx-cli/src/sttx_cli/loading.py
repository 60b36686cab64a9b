"""Loads a model with progress, and what predicts with it, and says what was chosen."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sttx_cli.output import count, say
from sttx_cli.progress import progress_bar
from sttx_cli.threads import choose_threads, use_threads
from sttx_train.devices import Device, DtypeName, choose_device, choose_dtype, choose_products
from sttx_train.formats import EMBEDDED
from sttx_train.wkv import Backend

if TYPE_CHECKING:
    from sttx_train import LoadedModel

Made = TypeVar("Made")

_ONCE = "for half a minute, once on this machine"


def load(
    model: str | None,
    device: Device = "auto",
    dtype: DtypeName = "auto",
    kernel: Backend = "auto",
    *,
    why: str | None = None,
) -> "LoadedModel":
    """Load a model; the embedded one for None. ``why`` is the reason for a dtype that nobody asked for."""
    from sttx_train import load_model
    from sttx_train.workers import own_device

    device_choice = choose_device(device)
    dtype_choice = choose_dtype(device_choice.device, dtype)
    with progress_bar(f"loading the model {model or EMBEDDED}"):
        own = own_device(device_choice.device)
        loaded = load_model(model, device=own, dtype=dtype_choice.dtype, kernel=kernel)
    sizes = loaded.model.config
    say(
        f"model: {loaded.id}, {'as asked' if model else 'which comes with sttx'} "
        f"({count(sizes.num_layers, 'layer')} of {sizes.hidden_size}, {sizes.vocab_size} tokens)"
    )
    for remark in loaded.notes:
        say(f"model: {remark}")
    say(f"device: {own} ({device_choice.reason})")
    weights = str(dtype_choice.dtype).removeprefix("torch.")
    say(f"dtype: {weights} ({why or dtype_choice.reason})")
    if weights == "bfloat16" and not (products := choose_products(device_choice.device)).bf16:
        say(f"dtype: slow here ({products.reason}); float32 reads and learns several times as fast")
    say(f"kernel: {loaded.kernel.backend} ({loaded.kernel.reason})")
    return loaded


def prepared(
    loaded: "LoadedModel",
    make: Callable[["LoadedModel"], Made],
    *,
    threads: int,
    most_threads: int | None = None,
    experts: bool = True,
    choosing: bool = False,
    learns: bool = False,
) -> Made:
    """Make what predicts with a model: choose threads, prepare the kernels and the experts, and say so.

    Args:
        loaded: The model.
        make: Makes a predictor, or what has one.
        threads: What `--threads` asks for; 0 to choose.
        most_threads: How many are useful; None if there is no limit.
        experts: Whether experts are needed.
        choosing: Whether they also say what comes next.
        learns: Whether the predictor may learn.
    """
    use_threads(choose_threads(threads, most=most_threads), say)
    prepare_kernels(loaded, learns=learns)
    if experts:
        prepare_experts(choosing=choosing)
    with progress_bar("preparing the predictor"):
        return make(loaded)


def prepare_kernels(loaded: "LoadedModel", *, learns: bool) -> None:
    """Compile the kernels of a model where they are not compiled yet, and say so.

    Args:
        loaded: The model.
        learns: Also compile what gradients need.
    """
    if loaded.kernel.backend != "compiled":
        return
    from sttx_train.rwkv7 import compile_kernels, kernels_are_compiled

    size, dtype = loaded.model.config.head_size, loaded.model.dtype
    if not kernels_are_compiled(size, dtype, learns=learns):
        with progress_bar(f"compiling the kernels, {_ONCE}"):
            compile_kernels(size, dtype, learns=learns)


def prepare_experts(*, choosing: bool = False) -> None:
    """Compile the experts, and say so where they are not compiled yet.

    Args:
        choosing: Also compile what says what comes next.
    """
    from sttx_core.experts import compile_choosing, compile_experts, experts_are_compiled

    ready = experts_are_compiled(choosing=choosing)
    with progress_bar("preparing the experts" if ready else f"compiling the experts, {_ONCE}"):
        compile_experts()
        if choosing:
            compile_choosing()
