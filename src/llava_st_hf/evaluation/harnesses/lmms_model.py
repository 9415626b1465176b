"""The model for lmms-eval (0.7.3 and later); imported by it alone."""

import json
from typing import Any

from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from ...data.skips import RecordError
from ...inference import load_pipeline
from ...inference.generation import generate_answers
from ..answering import Answerer
from .lmms_tasks import read_sample


class LlavaST(lmms):
    """
    Answers the tasks of `llava-st lmms-tasks` as `llava-st evaluate` does, and any other chat task freely.

    Args:
        pretrained (`str`): Checkpoint: a folder or a repository.
        device (`str`, *optional*): Where it runs.
        batch_size (`int` or `str`, *optional*, defaults to 1): Questions asked at a time.
        dtype (`str`, *optional*): Data type of the weights; that of the checkpoint when left out.
    """

    is_simple = False

    def __init__(
        self, pretrained: str, device: str | None = None, batch_size: int | str = 1, dtype: str | None = None
    ):
        super().__init__()
        pipeline = load_pipeline(pretrained, device, dtype)
        self.model, self.processor = pipeline.model, pipeline.processor
        self.batch_size = int(batch_size)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answer questions, in their order."""
        docs = [self.task_dict[request.args[4]][request.args[5]][request.args[3]] for request in requests]
        answers: list[str] = [""] * len(requests)
        ours: dict[tuple[str, int], list[int]] = {}
        for place, (doc, request) in enumerate(zip(docs, requests, strict=True)):
            if "record" in doc and "task" in doc:
                ours.setdefault((doc["task"], json.loads(doc["record"])["num_frames"]), []).append(place)
            else:
                answers[place] = self._answer_freely(request.args[1](doc), request.args[2])
        for (_, num_frames), places in ours.items():
            for first in range(0, len(places), self.batch_size):
                chosen = places[first : first + self.batch_size]
                for place, text in zip(chosen, self._answer([docs[p] for p in chosen], num_frames), strict=True):
                    answers[place] = text
        return answers

    def _answer(self, docs: list[Any], num_frames: int) -> list[str]:
        samples = []
        for doc in docs:
            try:
                samples.append(read_sample(doc))
            except RecordError as error:
                samples.append(error)
        answered = Answerer(self.model, self.processor, num_frames=num_frames).answer(samples)
        # What cannot be asked is worth 0, as an answer without words is.
        return ["" if isinstance(one, RecordError) else one.result.text for one in answered]

    def _answer_freely(self, messages: list[dict[str, Any]], options: dict[str, Any]) -> str:
        inputs = self.processor.apply_chat_template(
            [ChatMessages(messages=messages).to_hf_messages()],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        answerer = Answerer(self.model, self.processor, max_new_tokens=options.get("max_new_tokens", 1024))
        model_inputs = {name: inputs[name].to(self.model.device) for name in inputs}
        return generate_answers(self.model, self.processor, inputs, answerer.options, model_inputs)[0].text

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refuse: the tasks are answered in words."""
        raise NotImplementedError("llava_st answers in words: choose a task with output_type generate_until.")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuse: a question is asked once."""
        raise NotImplementedError("llava_st answers one question at a time: choose a task of one round.")
