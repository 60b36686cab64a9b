"""Learns for five steps from an invented stream of traces, saves a checkpoint and prints the results."""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sttx_core import Meta, ToolResult, ToolUse, Trace, UserMessage
from sttx_train import StreamConfig, StreamTrainer, load_model

STEPS = 5


def invented_traces() -> Iterator[Trace]:
    """Yield an endless stream of an agent's work, one file after another."""
    meta = Meta(session="invented")
    number = 0
    while True:
        number += 1
        path = f"src/shop/basket_{number}.py"
        yield UserMessage(meta=meta, text=f"Please run the tests of {path}.")
        yield ToolUse(meta=meta, name="Bash", input={"command": f"pytest {path}"})
        yield ToolResult(meta=meta, name="Bash", output=f"{path} ....\n4 passed in 0.{number:02d}s")


def main() -> None:
    """Learn for a few steps and print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder, a file or a Hugging Face id; by default goose-mini")
    parser.add_argument("--checkpoint-dir", type=Path, help="by default a temporary folder")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.checkpoint_dir or Path(temporary)
        trainer = StreamTrainer(load_model(options.model), config=StreamConfig(steps=STEPS), directory=folder)
        losses: list[float] = []
        trainer.run(invented_traces(), lambda progress: losses.append(progress.report.loss))

        report = trainer.report()
        print(f"steps: {report['steps']}")
        print(f"losses: {' '.join(f'{loss:.3f}' for loss in losses)}")
        print(f"bits per byte: {report['bpb']['paid']:.3f} paid, {report['bpb']['frozen']:.3f} frozen")
        print(f"merges: {report['phrases']['merges']}")
        print(f"promotions: {report['phrases']['promotions']}")
        print(f"checkpoint: {report['checkpoint']}")


if __name__ == "__main__":
    main()
