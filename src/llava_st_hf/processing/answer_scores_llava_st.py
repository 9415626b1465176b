"""From what `generate` returns to the text of each answer, to coordinates finer than a bin, and to results.

The model learns a coordinate as a pair of neighbouring bins with the weights 1 - r and r. Where the scores of a
generation are at hand, the same two weights are read back: the winning bin and its better neighbour give the fraction,
their probabilities together the confidence.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from .answer_parsing_llava_st import Refinements, parse_answer
from .batch_feature_llava_st import GroundingContext
from .grounding_results_llava_st import GroundingResult
from .media_llava_st import InputError, MediaInfo
from .notation_llava_st import NOTATION, CoordinateVocabulary
from .tasks_llava_st import get_task

# Of the neighbour of a bin. It has more where the bin was sampled or forced, not preferred: that is no refinement.
LARGEST_SHARE = 0.4995
NOT_REFINED = (
    "the coordinates are those of the bins, not refined: the answer came without its scores, which generate "
    "returns with the arguments of build_constraints, or with return_dict_in_generate=True and output_scores=True."
)


def read_generated(
    outputs: Any,
    prompts: Any,
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: CoordinateVocabulary,
) -> tuple[list[str], list[Refinements | None]]:
    """
    Return the text of each answer, and where scores are at hand its refined coordinates, else `None`.

    The outputs are token ids (rows, length), with or without the prompts in front, the texts themselves, what
    `generate` returns as a dictionary, or the requests that vLLM and engines like it return.
    """
    outputs = _unpack_requests([outputs] if isinstance(outputs, str) else outputs)
    if isinstance(outputs, (list, tuple)) and outputs and all(isinstance(item, str) for item in outputs):
        return list(outputs), [None] * len(outputs)
    rows = _to_rows(outputs.sequences if hasattr(outputs, "sequences") else outputs)
    rows = _drop_prompts(rows, [] if prompts is None else _to_rows(prompts))
    # The turn ends at <|im_end|> even where the tokenizer of the language model names another end of text.
    end_ids = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    rows = [_drop_end(row, end_ids) for row in rows]
    # Coordinate tokens are not special, so only what frames the answer is skipped.
    texts = [tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in rows]
    # Constrained decoding keeps the columns of the coordinates only.
    scores = getattr(outputs, "coordinate_scores", None)
    first_column = 0 if scores else vocabulary.offset
    scores = scores or getattr(outputs, "scores", None)
    if not scores:
        return texts, [None] * len(texts)
    beams = getattr(outputs, "beam_indices", None)  # (rows, tokens), the row of the scores of each token
    places = [[row] * len(scores) for row in range(len(rows))] if beams is None else beams.tolist()
    refinements = []
    for row, text, steps in zip(rows, texts, places, strict=True):
        own_scores = [step[place] for step, place in zip(scores, steps, strict=False)]
        refinements.append(_refine_row(row, text, own_scores, first_column, vocabulary))
    return texts, refinements


def read_answers(
    texts: Sequence[str],
    refinements: Sequence[Refinements | None],
    media: Sequence[tuple[MediaInfo, ...]],
    contexts: Sequence[GroundingContext],
    media_index: int,
    vocabulary: CoordinateVocabulary,
) -> list[GroundingResult]:
    """
    Put each answer back onto the medium of its sample that it is about; there are as many answers for each sample.
    """
    rows_per_sample = len(texts) // len(media)
    results = []
    for row, (text, refinement) in enumerate(zip(texts, refinements, strict=True)):
        sample = row // rows_per_sample
        context = contexts[sample]
        answer_format = None if context.task is None else get_task(context.task).answer_format
        if not media[sample]:
            results.append(GroundingResult(text=text, task=context.task, query=context.query))
            continue
        medium = media[sample][media_index]
        result = parse_answer(
            text,
            medium,
            answer_format=answer_format,
            vocabulary=vocabulary,
            start_seconds=context.get_start_seconds(medium),
            task=context.task,
            query=context.query,
            refinements=refinement,
        )
        is_of_bins = refinement is None and any(lexeme.unit == "bin" for lexeme in NOTATION.lex(text))
        results.append(replace(result, notes=(NOT_REFINED,)) if is_of_bins else result)
    return results


def refine_bin(probabilities: Sequence[float], winner: int) -> tuple[float, float]:
    """
    Return fraction and confidence of a coordinate from the bin that was generated and its better neighbour.

    The fraction is less than half a bin from the winner, so that two coordinates keep their order; the confidence is
    the mass of the two bins.
    """
    neighbours = [index for index in (winner - 1, winner + 1) if 0 <= index < len(probabilities)]
    other = max(neighbours, key=lambda index: probabilities[index])
    mass = probabilities[winner] + probabilities[other]
    share = min(probabilities[other] / mass, LARGEST_SHARE) if mass > 0 else 0.0
    return (winner + share * (other - winner)) / (len(probabilities) - 1), min(mass, 1.0)


def _refine_row(
    row: list[int], text: str, scores: list[Any], first_column: int, vocabulary: CoordinateVocabulary
) -> Refinements | None:
    """
    Refine the coordinate tokens of one answer, by the scores of each of its ids.

    These are of all tokens or of the coordinates alone; `first_column` is where the first coordinate stands.
    """
    steps = [step for step, token_id in enumerate(row) if vocabulary.contains(token_id)]
    starts = [lexeme.start for lexeme in NOTATION.lex(text) if lexeme.unit == "bin" and lexeme.value is not None]
    # An answer may spell a coordinate out of other tokens, and prompts that were not recognised shift the scores.
    if len(starts) != len(steps) or len(row) > len(scores):
        return None
    refined = {}
    for step, start in zip(steps, starts, strict=True):
        axis, bin_index = vocabulary.locate(row[step])
        begin = first_column + vocabulary.first_id(axis) - vocabulary.offset
        probabilities = scores[step].float().softmax(-1)[begin : begin + vocabulary.size(axis)]
        if probabilities.isnan().any():  # a grammar left no other choice
            continue
        refined[start] = refine_bin(probabilities.tolist(), bin_index)
    return refined


def _unpack_requests(outputs: Any) -> Any:
    """Return the ids, or else the texts, of another engine's requests; each has `outputs` with its answers."""
    requests = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if not requests or not all(hasattr(request, "outputs") for request in requests):
        return outputs
    if len({len(request.outputs) for request in requests}) > 1:
        raise InputError("outputs has requests with different numbers of answers: pass those of one number at a time.")
    answers = [answer for request in requests for answer in request.outputs]
    has_ids = all(getattr(answer, "token_ids", None) is not None for answer in answers)
    return [list(answer.token_ids) if has_ids else answer.text for answer in answers]


def _to_rows(sequences: Any) -> list[list[int]]:
    """Return token ids as a list of rows, from a tensor, an array or lists of them."""
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in sequences]
    if not all(isinstance(row, (list, tuple)) for row in rows):
        rows = [rows]
    return [[int(token_id) for token_id in row] for row in rows]


def _drop_prompts(rows: list[list[int]], prompts: list[list[int]]) -> list[list[int]]:
    """Take the prompts off the front of generated rows where they stand there."""
    if not prompts or len(rows) % len(prompts):
        return rows
    repeats = len(rows) // len(prompts)
    pairs = [(row, prompts[index // repeats]) for index, row in enumerate(rows)]
    if all(row[: len(prompt)] == prompt for row, prompt in pairs):
        return [row[len(prompt) :] for row, prompt in pairs]
    return rows


def _drop_end(row: list[int], end_ids: set[int | None]) -> list[int]:
    """Cut a row at the end of the assistant's turn; what follows is padding."""
    return row[: next((step for step, token_id in enumerate(row) if token_id in end_ids), len(row))]


__all__ = ["Refinements", "read_answers", "read_generated", "refine_bin"]
