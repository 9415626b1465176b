"""Peak memory and time of the loss against logits of every position in float32.

Both run in this process, one after the other, on the same hidden states: 3,200 supervised tokens, 152,064 text rows
and 300 coordinates. The peak is what the process holds above its level before the step (Linux: VmHWM).

    python benchmarks/loss_memory.py [--tokens 3200] [--hidden 896] [--vocabulary 152064]
"""

import argparse
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from llava_st_hf import LlavaSTForConditionalGeneration

COORDINATES = 300


class Head(nn.Module):
    """The head of the model alone: its loss is called on hidden states made here."""

    def __init__(self, hidden_size: int, vocabulary: int, chunk: int, train_head: bool):
        super().__init__()
        self.lm_head = nn.Linear(hidden_size, vocabulary, bias=False).requires_grad_(train_head)
        sizes = (COORDINATES // 3,) * 3
        self.config = SimpleNamespace(coordinate_token_offset=vocabulary, loss_chunk_size=chunk, axis_sizes=sizes)

    _score = LlavaSTForConditionalGeneration._score
    _compute_loss = LlavaSTForConditionalGeneration._compute_loss


def full_loss(head: Head, hidden: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor, table: torch.Tensor):
    """Logits of every position, float32, and a soft cross entropy over them."""
    logits = torch.cat([head.lm_head(hidden), hidden @ table.T], -1)[:, :-1].float()
    labels, offsets = labels[:, 1:], offsets[:, 1:]
    scores = logits.log_softmax(-1).flatten(0, 1)
    lower = scores.gather(-1, labels.flatten()[:, None])[:, 0]
    upper = scores.gather(-1, (labels + 1).clamp(max=logits.shape[-1] - 1).flatten()[:, None])[:, 0]
    return -torch.lerp(lower, upper, offsets.flatten()).mean()


def peak_and_seconds(step) -> tuple[float, float]:
    """Run a step; return the peak of the process above its level before, in MiB, and the seconds it took."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status_mib("VmRSS"), time.perf_counter()
    step()
    return status_mib("VmHWM") - before, time.perf_counter() - start


def status_mib(field: str) -> float:
    """Read a memory figure of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}: this benchmark needs Linux.")


def main() -> None:
    """Measure both forms, with the head frozen (as in the published stages) and trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=3200)
    parser.add_argument("--hidden", type=int, default=896)
    parser.add_argument("--vocabulary", type=int, default=152064)
    parser.add_argument("--chunk", type=int, default=256)
    options = parser.parse_args()
    torch.manual_seed(0)
    labels = torch.randint(0, options.vocabulary + COORDINATES - 1, (1, options.tokens + 1))
    offsets = torch.rand(1, options.tokens + 1) * (labels >= options.vocabulary)
    base = torch.randn(1, options.tokens + 1, options.hidden)
    print(f"{options.tokens} tokens, {options.vocabulary}+{COORDINATES} rows, width {options.hidden}, float32")
    for train_head in (False, True):
        head = Head(options.hidden, options.vocabulary, options.chunk, train_head)
        table = torch.randn(COORDINATES, options.hidden) * options.hidden**-0.5
        figures, gradients = {}, {}
        for name in ("full", "ours"):
            hidden, rows = base.clone().requires_grad_(), table.clone().requires_grad_()

            def step(name=name, head=head, hidden=hidden, rows=rows):
                if name == "full":
                    full_loss(head, hidden, labels, offsets, rows).backward()
                else:
                    head._compute_loss(hidden[:, :-1], labels[:, 1:], offsets[:, 1:], rows, None)[0].backward()

            figures[name] = peak_and_seconds(step)
            gradients[name] = [hidden.grad, rows.grad, *[p.grad for p in head.parameters() if p.requires_grad]]
            head.zero_grad()
        worst = max(
            ((ours - full).norm() / full.norm()).item()
            for ours, full in zip(gradients["ours"], gradients["full"], strict=True)
        )
        (full_peak, full_seconds), (peak, seconds) = figures["full"], figures["ours"]
        print(f"head {'trained' if train_head else 'frozen'}:")
        print(f"  peak memory  ours / full = {peak / full_peak:.3f}  ({peak:.0f} / {full_peak:.0f} MiB)")
        print(f"  time         ours / full = {seconds / full_seconds:.3f}")
        print(f"  gradients    largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
