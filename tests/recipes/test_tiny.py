"""The scripts of `make tiny`: the model that the stages start from, and what ablations leave out."""

import importlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.data.shapes.scenes import COLORS, SHAPES

TINY = Path(__file__).parents[2] / "recipes" / "tiny"


@pytest.fixture
def scripts(monkeypatch):
    """Import scripts of the recipe by name."""
    monkeypatch.syspath_prepend(TINY)
    return importlib.import_module


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Make the start twice from one seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TINY)
        module = importlib.import_module("make_checkpoint")
        patch.setattr(module, "NUM_TEXTS", 50)
        folders = [tmp_path_factory.mktemp("start") for _ in range(2)]
        for folder in folders:
            module.make_checkpoint(folder, seed=3, num_vision_steps=2, num_grounding_steps=2)
    return folders


def test_the_start_is_the_same_each_time_and_small(start):
    weights = [(folder / "model.safetensors").read_bytes() for folder in start]
    assert weights[0] == weights[1]
    assert sum(path.stat().st_size for path in start[0].iterdir()) < 10e6


def test_features_of_the_start_are_as_large_as_what_lape_adds(start):
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    images = ShapesDataset(["rec"], 16, seed=5)
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(16)])["pixel_values"]
    with torch.no_grad():
        features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        projected = model.model.multi_modal_projector(features)
    same = projected.mean((0, 1))  # for all patches: the mark that tells them from words, and little else
    assert 0.6 < same.std() < 0.9
    assert 0.5 < (projected - same).std() < 1.5


def test_near_coordinates_of_the_start_are_alike(start):
    tables = LlavaSTForConditionalGeneration.from_pretrained(start[0]).model.coordinate_embeddings
    for table in (tables.input_table, tables.output_table):
        for rows in table.detach().split(tables.axis_sizes):
            alike = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
            assert alike.diagonal(1).min() > 0.9
            assert alike.diagonal(40).abs().mean() < 0.2


def test_a_clip_has_as_many_features_as_placeholders(start):
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    clips = ShapesDataset(["stvg"], 2, seed=5)
    batch = LlavaSTDataCollator(processor)([clips[0], clips[1]])
    assert torch.isfinite(model(**batch).loss)


def test_patches_are_labelled_with_the_object_they_show(scripts):
    pretraining = scripts("pretrain_vision_tower")
    images = ShapesDataset(["rec"], 20, seed=5, difficulty="easy")  # nothing hides another
    for index in range(20):
        scene = images.make_scene(index)
        labels = pretraining.label_patches(scene, 9).view(9, 9, 2)
        shown = {tuple(label) for label in labels.flatten(0, 1).tolist()}
        truth = {(list(COLORS).index(item.color), list(SHAPES).index(item.shape)) for item in scene.objects}
        assert shown == truth | {pretraining.BACKGROUND}
        for item in scene.objects:
            column, row = (int(value * 9 // 72) for value in item.centers[0])
            assert labels[row, column].tolist() == [list(COLORS).index(item.color), list(SHAPES).index(item.shape)]


def test_pretraining_lets_patches_point_at_the_words_for_them(scripts, start):
    """Colours are told within a few steps."""
    pretraining = scripts("pretrain_vision_tower")
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    processor = LlavaSTProcessor.from_pretrained(start[0])
    rows = model.get_input_embeddings().weight.clone()
    pretraining.pretrain_vision_tower(model, processor, num_steps=60, seed=0)
    assert torch.equal(rows, model.get_input_embeddings().weight)
    images = ShapesDataset(["rec"], 16, seed=5, difficulty="easy")
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(16)])["pixel_values"]
    labels = torch.stack([pretraining.label_patches(images.make_scene(index), 9)[:, 0] for index in range(16)])
    words = pretraining.find_rows(model, processor, tuple(COLORS))
    with torch.no_grad():
        features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        patches = model.model.multi_modal_projector(features)
    shown = labels < len(COLORS)
    assert ((patches @ words.T).argmax(-1) == labels)[shown].float().mean() > 0.6


@pytest.fixture
def seen(start):
    """Eager model, processor, questions about the boxes of eight images, and the attention they get."""
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0], attn_implementation="eager")
    images = ShapesDataset(["rec"], 8, seed=5, difficulty="easy", num_questions=2)
    batch = LlavaSTDataCollator(processor)([images[index] for index in range(8)])
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    return model, processor, images, batch, attentions


def test_brackets_and_patches_of_boxes_are_found(scripts, seen):
    model, processor, images, batch, _ = seen
    for index, ids in enumerate(batch["input_ids"]):
        brackets, patches = scripts("pretrain_grounding").find_boxes(model, ids)
        assert processor.tokenizer.convert_ids_to_tokens(ids[brackets]) == ["["] * len(brackets)
        labels = scripts("pretrain_vision_tower").label_patches(images.make_scene(index), 9)
        assert len(brackets) == len(images[index].messages) / 2
        for inside in patches:
            assert len({tuple(label) for label in labels[inside].tolist()}) == 1


def test_local_heads_look_at_recent_tokens_and_naming_heads_at_patches(scripts, seen):
    model, _, _, batch, attentions = seen
    ids = batch["input_ids"][0]
    bracket = scripts("pretrain_grounding").find_boxes(model, ids)[0][0]
    is_patch = ids == model.config.image_token_id
    naming, near, recent = attentions[0][0, :3, bracket]
    assert naming[is_patch].sum() > 0.9
    for local, reach in ((near, 3), (recent, 12)):
        assert local[bracket - reach : bracket + 1].mean() > 5 * local[is_patch].mean()


def test_pretraining_grounding_turns_attention_to_what_is_named(scripts, seen):
    model, processor, _, batch, attentions = seen
    pretraining = scripts("pretrain_grounding")
    before = pretraining.compute_attention_loss(model, processor, batch["input_ids"], attentions)
    pretraining.pretrain_grounding(model, processor, num_steps=40, seed=0)
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    after = pretraining.compute_attention_loss(model, processor, batch["input_ids"], attentions)
    assert after < before - 1


def get_features(model, processor):
    clips = ShapesDataset(["stvg"], 1, seed=5)
    pixels = LlavaSTDataCollator(processor)([clips[0]])["pixel_values_videos"]
    return model.model.get_video_features(pixels).pooler_output[0]


def test_each_variant_leaves_out_its_part(scripts, start):
    ablation = scripts("ablation")
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    processor = LlavaSTProcessor.from_pretrained(start[0])
    tables = model.model.coordinate_embeddings
    features = get_features(model, processor)

    def differentiate() -> torch.Tensor:
        tables.zero_grad()
        tables()[0][50].sum().backward()
        return tables.input_table.grad.norm(dim=-1)

    assert differentiate()[49] > 0
    with ablation.replaced("no_ntp"):
        assert differentiate().nonzero().flatten().tolist() == [50]
    with ablation.replaced("no_lape"):
        assert not any(part.any() for part in model.model._positions())
        assert not torch.allclose(get_features(model, processor), features)
    with ablation.replaced("average_pooling"):
        pooled = get_features(model, processor)
        assert pooled.shape == features.shape
        assert not torch.allclose(pooled, features)
    assert torch.equal(get_features(model, processor), features)  # nothing stays replaced


def test_average_pooling_counts_what_exists(scripts):
    regions = torch.tensor([[[1.0], [3.0], [100.0]]])
    pool_average = scripts("ablation").pool_average
    assert pool_average(None, regions, None, torch.tensor([True, True, False])).item() == 2
    assert pool_average(None, regions[:, :2], None).item() == 2


# ---------------------------------------------------------------------------------------------------------------------
# Pretraining on clips
# ---------------------------------------------------------------------------------------------------------------------
NUM_CELLS, CELL_SIZE = 5, 2 / 9


def test_tokens_of_a_clip_are_labelled_with_the_object_they_show_and_what_it_does(scripts):
    clip_labels = scripts("clip_labels")
    clips = ShapesDataset(["svg"], 30, seed=5, difficulty="easy")
    shown = []
    for index in range(30):
        scene = clips.make_scene(index)
        labels = clip_labels.ClipLabels(scene, NUM_CELLS, CELL_SIZE)
        for number, item in enumerate(scene.objects):
            for segment in item.segments:
                words = {word for word in segment.name.split() if word in clip_labels.WORDS_OF_EVENTS}
                for frame in range(segment.first_frame, segment.last_frame + 1):
                    column, row = (int(value / (72 * CELL_SIZE)) for value in item.centers[frame])
                    if not item.visible[frame]:
                        assert not (labels.owners[frame] == number).any()
                        continue
                    shown.append(labels.owners[frame, row, column] == number)
                    if not shown[-1]:  # it is small, and its middle near the edge of a cell
                        continue
                    said = labels.events[frame, row, column].nonzero()[:, 0].tolist()
                    assert {clip_labels.WORDS_OF_EVENTS[word] for word in said} == words
                    assert bool(labels.known[frame, row, column]) == (not words or frame > segment.first_frame)
    assert sum(shown) > 0.95 * len(shown)


@pytest.fixture
def asked(scripts, start):
    """Losses of clips, their scenes and questions, and the texts as ids."""
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0], attn_implementation="eager")
    return scripts("pretrain_clips").ClipLosses(model, processor, num_steps=2, seed=5), processor


def test_answers_about_clips_should_look_at_what_they_are_about(scripts, asked):
    clip_labels, draws = scripts("clip_labels"), importlib.import_module("llava_st_hf.data.shapes.draws")
    losses, processor = asked
    seen_tasks = set()
    for index in range(12):
        scene = losses.clips.make_scene(index)
        questions = clip_labels.ask(scene, draws.Draws(1, index))
        labels = clip_labels.ClipLabels(scene, NUM_CELLS, CELL_SIZE)
        messages = tuple(message for question in questions for message in question.messages)
        batch = losses.collator([replace(losses.clips[index], messages=messages)])
        ids, answered = batch["input_ids"][0], batch["labels"][0] != -100
        first = int((ids == losses.model.config.video_token_id).nonzero()[0, 0])
        found = clip_labels.find_looks(ids, answered, questions, labels, losses.vocabulary, first)
        for question, looks in zip(questions, found, strict=True):
            name = scene.objects[question.number].name
            assert name in " ".join(message["content"] for message in question.messages)
            assert (labels.owners.flatten()[looks.tokens - first] == question.number).all()
            frames = set(((looks.tokens - first) // NUM_CELLS**2).tolist())
            words = processor.tokenizer.convert_ids_to_tokens(ids[looks.words])
            query, answer = (message["content"] for message in question.messages)
            times = [round(float(time) * 19) for time in re.findall("<t=([^>]+)>", f"{query} {answer}")]
            owned = {frame for frame in range(20) if (labels.owners[frame] == question.number).any()}
            assert frames == owned & set(range(min(times), max(times) + 1))
            if question.task == "tr":
                assert all(word.startswith("<t_") for word in words) and len(words) == 2
                assert processor.tokenizer.decode(ids[looks.answers]) == answer
            else:
                marks = processor.tokenizer.convert_ids_to_tokens(ids[looks.answers + 1])
                assert [mark[:3] for mark in marks] == (
                    ["<x_", "<y_", "<x_", "<y_"] if question.task == "lookup" else ["<t_", "<t_"]
                )
                assert words[0].lstrip("Ġ") in (name if question.task == "lookup" else query)
            seen_tasks.add(question.task)
    assert seen_tasks == {"lookup", "tvg", "tr"}


def test_pretraining_on_clips_turns_attention_and_is_the_same_each_time(scripts, start, monkeypatch):
    pretraining = scripts("pretrain_clips")
    monkeypatch.setattr(pretraining, "WARMUP_STEPS", 1)
    processor = LlavaSTProcessor.from_pretrained(start[0])
    weights = []
    for _ in range(2):
        model = LlavaSTForConditionalGeneration.from_pretrained(start[0], attn_implementation="eager")
        losses = pretraining.ClipLosses(model, processor, num_steps=1, seed=7)
        with torch.no_grad():
            before = losses.compute(0)
        pretraining.pretrain_clips(model, processor, num_steps=6, seed=5)
        with torch.no_grad():
            after = losses.compute(0)
        for name, least in {"asking": 1, "finding": 0.3, "following": 0.7, "events": 0.5}.items():
            assert after[name] < before[name] - least, name
        weights.append(model.get_input_embeddings().weight)
    assert torch.equal(*weights)


def test_pretraining_on_clips_goes_without_the_fast_stream(scripts, start):
    """The released behaviour, of which there is an ablation."""
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0], attn_implementation="eager")
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model.config.splice_fast_tokens = processor.splice_fast_tokens = False
    losses = scripts("pretrain_clips").ClipLosses(model, processor, num_steps=2, seed=5)
    assert set(losses.compute(1)) == {"text"}
    assert all(torch.isfinite(loss) for loss in losses.compute(0).values())
