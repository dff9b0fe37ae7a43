"""The gain of cutting prompts after their end-of-text token, with class-name prompts and a CLIP text tower.

    python -m benchmarks.text_encoding --architecture ViT-B-32 --prompts 128

The other side is a loop over batches with open_clip's `encode_text`, at the full context length for every prompt.
"""

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.common import in_turns, model_and_encoder


def full_context(model: Any, tokenizer: Any, prompts: Sequence[str], batch_size: int, device: torch.device) -> Tensor:
    """Every prompt at the full context, in the order given."""
    with torch.inference_mode():
        tokens = tokenizer(list(prompts)).to(device)
        parts = [model.encode_text(batch, normalize=True).float() for batch in tokens.split(batch_size)]
        return torch.cat(parts).cpu()


def main(architecture: str = "ViT-B-32", prompts: int = 128, batch_size: int = 128, turns: int = 6) -> None:
    """Print prompts a second with and without the cut, their ratio and the largest difference of the vectors."""
    model, encoder = model_and_encoder(architecture)
    tokenizer = open_clip.get_tokenizer(architecture)
    names = open_clip.IMAGENET_CLASSNAMES * (prompts // len(open_clip.IMAGENET_CLASSNAMES) + 1)
    sentences = [f"a photo of a {name}." for name in names[:prompts]]

    def full() -> Tensor:
        return full_context(model, tokenizer, sentences, batch_size, encoder.device)

    def cut() -> Tensor:
        return encoder.encode_text(sentences, batch_size=batch_size).cpu()

    difference = float((full() - cut()).abs().max())
    full_s, cut_s = in_turns([full, cut], turns)
    table = Table("", "prompts/s", "ratio", title=f"{architecture} on {encoder.device}, {prompts} class-name prompts")
    table.add_row("full context", f"{prompts / full_s:.1f}", "1.0")
    table.add_row("cut at the longest end-of-text", f"{prompts / cut_s:.1f}", f"{full_s / cut_s:.1f}")
    Console().print(table, f"largest difference of the vectors: {difference:.1e}")


if __name__ == "__main__":
    typer.run(main)
