"""`sttx generate`: text that continues a prompt, or answers in a chat. Connects a prompt to a predictor."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sttx_cli.chat import run_chat
from sttx_cli.constraints import build_constraint, constraint_options
from sttx_cli.loading import load, prepared
from sttx_cli.options import Grouped, Name, build, config_options, refuse_unused
from sttx_cli.output import PieceOutput, count, emit_json, say
from sttx_cli.progress import progress_bar
from sttx_cli.runs import (
    check_model,
    check_outer,
    dtype_option,
    kernel_option,
    learned_options,
    model_option,
    named_learned,
    outer_options,
)
from sttx_cli.threads import threads_option
from sttx_core.errors import UsageError
from sttx_train.devices import DtypeName
from sttx_train.formats import EMBEDDED
from sttx_train.generate import SamplingConfig
from sttx_train.wkv import Backend

if TYPE_CHECKING:
    from sttx_train import Generation, LoadedModel, Predictor
    from sttx_train.generate import Conversation

_STDIN = "-"
_ENDED = {"stop": "ended at a stop", "length": "ended at --max-tokens", "end": "the model ended the document"}
_WHOLE = "the constraint is met"


@click.command("generate", cls=Grouped)
@click.argument("prompt", type=Name(), default=None, required=False, metavar="[PROMPT|-]")
@learned_options("Generate")
@outer_options
@model_option
@dtype_option
@click.option(
    "--experts",
    type=click.Choice(["on", "off"]),
    default="on",
    show_default=True,
    help="Mix experts in; they remember what was read.",
)
@click.option("--chat", is_flag=True, help="Talk, a line at a time, until the end of input.")
@click.option("--learn", is_flag=True, help="With --chat: learn from what you say; it stays in memory.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    metavar="N",
    help="Most tokens of a text, or of an answer.",
)
@click.option(
    "--stop",
    type=Name(),
    multiple=True,
    metavar="TEXT",
    help="End where this text would come; it is not printed. May be repeated.",
)
@constraint_options
@kernel_option
@threads_option
@config_options(SamplingConfig, title="Sampling", skip={"logit_bias"})
@click.option(
    "--logit-bias",
    type=Name(),
    multiple=True,
    metavar="ID:BIAS",
    help="Add a number to the log-probability of a token. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def command(
    prompt: str | None,
    checkpoint: str | None,
    state: Path | None,
    model: str | None,
    dtype: DtypeName,
    experts: str,
    chat: bool,
    learn: bool,
    max_tokens: int,
    stop: tuple[str, ...],
    json_schema: str | None,
    regex: str | None,
    tools: str | None,
    kernel: Backend,
    threads: int,
    logit_bias: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Generate text after a prompt, or answers in a chat.

    PROMPT stands at a document's start; - reads it from standard input. Without one, the text starts as a
    document does. Only what follows the prompt is printed, as it is generated.

    With --chat each line that you type is a turn of the user, and each answer one of the assistant; PROMPT is
    your first line. Nothing is learned without --learn, and no file is written but by /save.
    """
    sampling = build(SamplingConfig, options, logit_bias=tuple(map(_bias, logit_bias)))
    refuse_unused(sampling.without_effect())
    _check(prompt, chat, learn, as_json)
    constraint = build_constraint(chat, json_schema=json_schema, regex=regex, tools=tools)
    learned = named_learned(checkpoint, state)
    outer = check_outer(options["state_lr"], options["state_decay"], learned=learned is not None)
    check_model(model, EMBEDDED)
    text = _standard_input() if prompt == _STDIN else prompt or ""
    with progress_bar("loading PyTorch"):
        from sttx_train import LearnerConfig, Predictor
    on = experts == "on"
    # A checkpoint says how it learns.
    learning = LearnerConfig(phrases="off") if learn and learned is None else None
    predictor = prepared(
        _loaded(model, dtype, kernel),
        lambda loaded: Predictor(loaded, learned, experts=on, learning=learning, learns=learn, **outer),
        threads=threads,
        experts=on,
        choosing=True,
        learns=learn,
    )
    if chat:
        conversation = _conversation(predictor, sampling, max_tokens, stop, learn)
        run_chat(conversation, first=prompt, learns=learn)
        return
    with progress_bar("reading the prompt"):
        generation = predictor.generate(
            text, sampling, max_tokens=max_tokens, stop=stop, constraint=constraint
        )
    _print(generation, max_tokens, as_json, _ENDED | ({"end": _WHOLE} if constraint else {}))


def _check(prompt: str | None, chat: bool, learn: bool, as_json: bool) -> None:
    """Refuse options that would have no effect.

    Raises:
        UsageError: There is one.
    """
    if learn and not chat:
        raise UsageError("--learn would have no effect: it goes with --chat; leave it out")
    if chat and as_json:
        raise UsageError("--json would have no effect with --chat, which prints answers; leave one out")
    if chat and prompt == _STDIN:
        raise UsageError(
            "- would have no effect with --chat, which reads standard input anyway; leave it out"
        )


def _loaded(model: str | None, dtype: DtypeName, kernel: Backend) -> "LoadedModel":
    """Load a model; say which step reads its tokens, and compile that."""
    loaded = load(model, dtype=dtype, kernel=kernel)
    step = loaded.model.step_choice
    say(f"step: {'compiled' if step.fused else 'torch'} ({step.reason})")
    from sttx_train.fused import step_is_compiled

    ready = not step.fused or step_is_compiled()
    what = "preparing the step" if ready else "compiling the step, for ten seconds, once on this machine"
    with progress_bar(what):
        loaded.model.prepare_step()
    return loaded


def _bias(text: str) -> tuple[int, float]:
    token, colon, bias = text.partition(":")
    try:
        return int(token), float(bias)
    except ValueError as error:
        raise UsageError(f"--logit-bias {text!r} is not ID:BIAS, such as 17:-2.5") from error


def _standard_input() -> str:
    """Return the prompt on standard input.

    Raises:
        UsageError: It is empty, or not UTF-8.
    """
    try:
        text = sys.stdin.buffer.read().decode().replace("\r\n", "\n")  # whatever the locale's encoding is
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not UTF-8: give a text") from error
    if not text:
        raise UsageError("standard input is empty: - reads the prompt from it")
    return text


def _conversation(
    predictor: "Predictor", sampling: SamplingConfig, max_tokens: int, stop: tuple[str, ...], learn: bool
) -> "Conversation":
    from sttx_train.generate import Conversation

    return Conversation(
        # Without learning, a copy of the experts reads: /reset forgets all of the conversation.
        lambda: predictor.read("chat", alone=not learn),
        predictor.loaded.tokenizer,
        sampling=sampling,
        max_tokens=max_tokens,
        stop=stop,
        learns=learn,
        name=time.strftime("chat-%Y%m%dT%H%M%SZ", time.gmtime()),
    )


def _print(generation: "Generation", max_tokens: int, as_json: bool, ended: dict[str, str]) -> None:
    if as_json:
        with progress_bar("generating", max_tokens, "tokens", poll=lambda: len(generation.ids)):
            for _ in generation:
                pass
        emit_json(
            {
                "text": generation.text,
                "tokens": len(generation.ids),
                "finish_reason": generation.finish_reason,
            }
        )
        return
    output = PieceOutput()
    for piece in generation:
        output.emit(piece)
    if not generation.text.endswith("\n"):
        output.emit("\n")
    say(f"{count(len(generation.ids), 'token')}: {ended[generation.finish_reason or 'length']}")
