"""The grammar of constrained answers on a vocabulary of the published size: its first use, and its cost at a token.

The tokenizer is made here: 152,064 byte-level tokens, without merges, and 300 coordinates. CPU time of one thread; the
cost at a token is that of the whole logits processor, for one answer.

    python benchmarks/answer_grammar.py [--vocabulary 152064] [--tokens 1000] [--window 50]
"""

import argparse
import random
import time
from collections.abc import Callable

import torch
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from llava_st_hf.processing import GrammarLogitsProcessor, add_coordinate_tokens
from llava_st_hf.processing.answer_grammar_llava_st import AnswerGrammar
from llava_st_hf.processing.grammar_vocabulary_llava_st import GrammarVocabulary, TimeLimits

LATIN = "abcdefghijklmnopqrstuvwxyz" * 4 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_<>[]{}().,:;\n\t-=+/*'\""
BINS = 100


def make_tokenizer(vocabulary: int) -> Qwen2Tokenizer:
    """Make a tokenizer of so many tokens: words of Latin letters, of Chinese signs, and of anything else."""
    rng = random.Random(0)
    ranges = ((0x80, 0x2FFF), (0x4E00, 0x9FFF))
    split = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    tokens = dict.fromkeys(sorted(ByteLevel.alphabet()))
    while len(tokens) < vocabulary - 16:
        if rng.random() < 0.75:
            word = rng.choice(("", " ")) + "".join(rng.choices(LATIN, k=rng.randint(2, 9)))
        else:
            word = "".join(chr(rng.randint(*ranges[rng.random() < 0.8])) for _ in range(rng.randint(1, 4)))
        tokens.setdefault(split(word)[0][0])
    tokenizer = Qwen2Tokenizer(vocab={token: index for index, token in enumerate(tokens)}, eos_token="<|im_end|>")
    spare = vocabulary - len(tokenizer)
    tokenizer.add_tokens([AddedToken(f"<|spare_{index}|>", special=True) for index in range(spare)])
    return tokenizer


def measure(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def measure_tokens(grammar: AnswerGrammar, positions: tuple[int, ...], window: int) -> list[float]:
    """Decode an answer from random scores; return the median CPU seconds of a call from each position on."""
    constrain = GrammarLogitsProcessor([grammar], prompt_length=0)
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, grammar.vocabulary.size, generator=generator)
    scores[0, grammar.vocabulary.end_id] = -1e4
    ids, seconds = torch.zeros(1, 0, dtype=torch.long), []
    for _ in range(max(positions) + window):
        start = time.process_time()
        allowed = constrain(ids, scores)
        seconds.append(time.process_time() - start)
        ids = torch.cat([ids, allowed.argmax(-1, keepdim=True)], dim=-1)
    return [sorted(seconds[position : position + window])[window // 2] for position in positions]


def main() -> None:
    """Print the first use, and the cost at a token for words and for boxes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=152064)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--window", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = make_tokenizer(options.vocabulary)
    vocabulary = GrammarVocabulary(tokenizer, add_coordinate_tokens(tokenizer, BINS, BINS))
    offset = vocabulary.num_text_tokens
    print(f"vocabulary of {offset} tokens and {vocabulary.size - offset} coordinates, one thread")
    limits = TimeLimits(frame_times=tuple(range(BINS)))
    budget = options.tokens + options.window + 100
    boxes = measure(lambda: [AnswerGrammar(vocabulary, name, budget, limits) for name in ("span", "box", "tube")])
    words = measure(lambda: vocabulary.words)
    decode = measure(lambda: tokenizer.batch_decode([[token_id] for token_id in range(offset)]))
    print(f"first use, spans, boxes and tubes: {boxes:.3f} s")
    print(f"first use, words: {words:.3f} s, {words / decode:.2f} of decoding the ids one by one")
    row = torch.randn(1, vocabulary.size)
    passes = sorted(measure(lambda: row.argmax(-1)) for _ in range(options.window))[options.window // 2]
    for answer_format in ("tube", "text"):
        grammar = AnswerGrammar(vocabulary, answer_format, budget, limits)
        early, late = measure_tokens(grammar, (10, options.tokens - options.window), options.window)
        print(
            f"at a token, {answer_format}: {1e3 * early:.3f} ms at 10, {1e3 * late:.3f} ms at {options.tokens} "
            f"({late / early:.2f}); {late / passes:.1f} of an argmax over the vocabulary"
        )


if __name__ == "__main__":
    main()
