"""Loads a model, runs one forward pass, and prints its vocabulary size and the five largest logits."""

import argparse

import torch

from sttx_train import load_model


def main() -> None:
    """Load the model, predict the next token and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a folder, a file or a Hugging Face id; by default goose-mini")
    parser.add_argument("--text", default="def main(", help="the text before the predicted token")
    options = parser.parse_args()

    loaded = load_model(options.model)
    ids = [loaded.tokenizer.eot_id, *loaded.tokenizer.encode(options.text)]
    with torch.no_grad():
        logits_BTV, state = loaded.model(torch.tensor([ids]))
    best = logits_BTV[0, -1].topk(5)

    print(f"model: {loaded.id}")
    print(f"vocabulary: {loaded.model.config.vocab_size}")
    print(f"state: {state.nbytes} bytes, for any length of text")
    print(f"the five most likely tokens after {options.text!r}:")
    for logit, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        print(f"  {logit:8.3f}  {loaded.tokenizer.decode([token])!r}")


if __name__ == "__main__":
    main()
