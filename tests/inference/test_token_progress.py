import torch

from llava_st_hf.inference.token_progress import TokenProgress


def test_tokens_are_counted_and_the_prompt_is_not():
    told = []
    progress = TokenProgress(lambda new, total: told.append((new, total)))
    for value in (torch.zeros(1, 9), torch.zeros(1), torch.zeros(4)):
        progress.put(value)
    progress.end()
    assert told == [(0, 0), (1, 1), (4, 5)]
