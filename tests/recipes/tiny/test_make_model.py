"""The model that the pretraining of the tiny model begins with."""

import torch

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset


def test_features_of_the_start_are_as_large_as_what_lape_adds(start):
    processor = LlavaSTProcessor.from_pretrained(start)
    model = LlavaSTForConditionalGeneration.from_pretrained(start)
    images = ShapesDataset(["rec"], 16, seed=5)
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(16)])["pixel_values"]
    with torch.no_grad():
        features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        projected = model.model.multi_modal_projector(features)
    same = projected.mean((0, 1))  # for all patches: the mark that tells them from words, and little else
    assert 0.6 < same.std() < 0.9
    assert 0.5 < (projected - same).std() < 1.5


def test_near_coordinates_of_the_start_are_alike(start):
    tables = LlavaSTForConditionalGeneration.from_pretrained(start).model.coordinate_embeddings
    for table in (tables.input_table, tables.output_table):
        for rows in table.detach().split(tables.axis_sizes):
            alike = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=-1)
            assert alike.diagonal(1).min() > 0.9
            assert alike.diagonal(40).abs().mean() < 0.35  # a quarter of each row is slow waves


def test_a_clip_has_as_many_features_as_placeholders(start):
    processor = LlavaSTProcessor.from_pretrained(start)
    model = LlavaSTForConditionalGeneration.from_pretrained(start)
    clips = ShapesDataset(["stvg"], 2, seed=5)
    batch = LlavaSTDataCollator(processor)([clips[0], clips[1]])
    assert torch.isfinite(model(**batch).loss)


def test_local_heads_look_at_recent_tokens_and_naming_heads_at_patches(load):
    model, processor = load()
    images = ShapesDataset(["rec"], 1, seed=5, difficulty="easy")
    batch = LlavaSTDataCollator(processor)([images[0]])
    with torch.no_grad():
        attentions = model(**batch, output_attentions=True).attentions
    ids = batch["input_ids"][0]
    asked = int((batch["labels"][0] != -100).nonzero()[0, 0])
    is_patch = ids == model.config.image_token_id
    naming, near = attentions[0][0, :2, asked]
    recent = attentions[1][0, 2, asked]
    assert naming[is_patch].sum() > 0.9
    for local, reach in ((near, 3), (recent, 12)):
        assert local[asked - reach : asked + 1].mean() > 5 * local[is_patch].mean()
