"""Loads a saved folder through the Auto classes and says what came out.

`test_remote_code.py` imports this file, and runs it by itself in an interpreter that has no `llava_st_hf`.
"""

import importlib.util
import json
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    Qwen2Model,
    Qwen2Tokenizer,
    SiglipImageProcessorPil,
    SiglipVisionModel,
    pipeline,
)
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # the top-level name needs torchvision

PACKAGE = "llava_st_hf"
REMOTE = {"trust_remote_code": True}
PARTS = (Qwen2Model, Qwen2Tokenizer, SiglipImageProcessorPil, SiglipVisionModel)  # imported once for all processes
QUESTION = "<t=0.25> the red circle <x=0.3> moves to the right"


def get_media_inputs(processor, clip: str):
    messages = processor.build_messages("stvg", video=clip, query=QUESTION)
    return processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def observe_config(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    config = AutoConfig.from_pretrained(source, **REMOTE)
    return type(config), [config.total_vocab_size, config.coordinate_token_offset, config.text_config.hidden_size]


def observe_tokenizer(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    tokenizer = AutoTokenizer.from_pretrained(source, **REMOTE)
    ids = tokenizer("From <t_3> on, [<x_1><y_99>]").input_ids
    return type(tokenizer), [ids, tokenizer.decode(ids, skip_special_tokens=True)]


def observe_video_processor(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    video_processor = AutoVideoProcessor.from_pretrained(source, **REMOTE)
    return type(video_processor), video_processor(clip, return_tensors="pt")["pixel_values_videos"]


def observe_processor(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    processor = AutoProcessor.from_pretrained(source, **REMOTE)
    return type(processor), dict(get_media_inputs(processor, clip))


def observe_base_model(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    model = AutoModel.from_pretrained(source, **REMOTE)
    with torch.no_grad():
        return type(model), model(**inputs).last_hidden_state


def observe_image_text_to_text(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    return observe_head(AutoModelForImageTextToText, source, inputs)


def observe_multimodal_lm(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    return observe_head(AutoModelForMultimodalLM, source, inputs)


def observe_head(auto_class, source: str, inputs: dict) -> tuple[type, object]:
    model, info = auto_class.from_pretrained(source, output_loading_info=True, **REMOTE)
    assert not any(info.values()), info
    with torch.no_grad():
        return type(model), model(**inputs).logits


def observe_grounding(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    processor = AutoProcessor.from_pretrained(source, **REMOTE)
    model = AutoModelForImageTextToText.from_pretrained(source, **REMOTE)
    inputs = get_media_inputs(processor, clip)
    constraints = processor.build_constraints(inputs, max_new_tokens=60)
    (result,) = processor.post_process_grounding(model.generate(**inputs, **constraints), inputs)
    assert not result.problems
    return type(result), json.loads(result.to_json())


def observe_pipeline(source: str, inputs: dict, clip: str) -> tuple[type, object]:
    ask = pipeline("image-text-to-text", model=source, **REMOTE)
    content = [{"type": "video", "path": clip}, {"type": "text", "text": "When does it move?"}]
    answer = ask([{"role": "user", "content": content}], max_new_tokens=6, return_full_text=False)
    return type(ask.model), answer[0]["generated_text"]


OBSERVERS: dict[str, Callable[[str, dict, str], tuple[type, object]]] = {
    "AutoConfig": observe_config,
    "AutoTokenizer": observe_tokenizer,
    "AutoVideoProcessor": observe_video_processor,
    "AutoProcessor": observe_processor,
    "AutoModel": observe_base_model,
    "AutoModelForImageTextToText": observe_image_text_to_text,
    "AutoModelForMultimodalLM": observe_multimodal_lm,
    "post_process_grounding": observe_grounding,
    "pipeline": observe_pipeline,
}


def save_again(source: str, target: str) -> None:
    """Load and save a model, and what lies beside it."""
    is_base = not Path(source, "processor_config.json").is_file()
    (AutoModel if is_base else AutoModelForMultimodalLM).from_pretrained(source, **REMOTE).save_pretrained(target)
    if not is_base:
        AutoProcessor.from_pretrained(source, **REMOTE).save_pretrained(target)


def observe_to_file(name: str, source: str, inputs: dict, clip: str, path: Path) -> None:
    kind, value = OBSERVERS[name](source, inputs, clip)
    torch.save({"module": kind.__module__, "class": kind.__name__, "value": value}, path)


def run_alone(function: Callable, *arguments) -> str | None:
    """Run a function in a process of its own, in which no Auto class has been used; return its error."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def run() -> None:
        try:
            function(*arguments)
        except Exception:
            sender.send(traceback.format_exc())
            raise
        sender.send(None)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    error = receiver.recv()
    process.join()
    return error


def main(folder: Path) -> None:
    """Work off `jobs.json` in a folder; write one file for each observation, and `errors.json`."""
    assert importlib.util.find_spec(PACKAGE) is None, f"{PACKAGE} can be imported"
    jobs = json.loads((folder / "jobs.json").read_text())
    inputs = torch.load(folder / "inputs.pt")
    errors = {}
    for source, target in jobs.get("save_again", ()):
        errors[source] = run_alone(save_again, source, target)
    for name, source in jobs["observe"]:
        path = folder / f"{name}.pt"
        key = name.split("@")[0]
        errors[name] = run_alone(observe_to_file, key, source, inputs, jobs["clip"], path)
    assert PACKAGE not in sys.modules
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
