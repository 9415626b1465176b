"""Behaviour of the model beyond the published one: any frames, any media, batches, memory, saving."""

import functools

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassClassValidationError
from model_inputs import GRID, IMAGE, SLOW_TOKENS, VIDEO, left_pad, pixels, prompt, video_inputs, video_tokens
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoModelForMultimodalLM

from llava_st_hf import LlavaSTConfig, LlavaSTForConditionalGeneration, LlavaSTModel


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6, 7, 13])
def test_any_number_of_frames(make_model, frames):
    model = make_model()
    (features,) = model.get_video_features(pixels(1, frames)).pooler_output
    assert features.shape == (video_tokens(frames), 32)
    logits = model(**video_inputs(frames)).logits
    assert logits.shape[-1] == model.config.total_vocab_size == 40 + 7 + 2 * 5
    assert torch.isfinite(logits).all()


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_result_does_not_depend_on_the_vision_chunk(make_model, chunk):
    inputs = video_inputs(7)
    torch.testing.assert_close(
        make_model(vision_chunk_size=chunk)(**inputs).logits, make_model()(**inputs).logits, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_the_vision_tower_never_sees_more_than_a_chunk(make_model):
    model = make_model(vision_chunk_size=3)
    seen = []
    model.model.vision_tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    model(**video_inputs(7))
    assert seen == [3, 3, 1]


@torch.no_grad()
def test_several_videos_and_images_in_one_sample_keep_their_places(make_model):
    model = make_model()
    first, second, image = pixels(1, 3, seed=1), pixels(1, 3, seed=2), pixels(1, seed=3)
    ids = prompt(2, [VIDEO] * video_tokens(3), 3, [IMAGE] * GRID**2, 4, [VIDEO] * video_tokens(3), 5)
    out = model.model(ids, pixel_values=image, pixel_values_videos=torch.cat([first, second]))
    embeds = model.model.embed_ids(ids, None)
    place = 1
    for features in (
        *model.get_video_features(first).pooler_output,
        *model.get_image_features(image).pooler_output,
        *model.get_video_features(second).pooler_output,
    ):
        embeds[0, place : place + len(features)] = features
        place += len(features) + 1
    expected = model.model.language_model(inputs_embeds=embeds).last_hidden_state
    torch.testing.assert_close(out.last_hidden_state, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_videos_of_different_length_equal_each_alone(make_model):
    model = make_model()
    short, long = pixels(1, 2, seed=1), pixels(1, 6, seed=2)
    padded = torch.cat([F.pad(short, (0, 0) * 3 + (0, 4)), long])
    together = model.get_video_features(padded, video_num_frames=torch.tensor([2, 6])).pooler_output
    for video, features in zip((short, long), together, strict=True):
        (alone,) = model.get_video_features(video).pooler_output
        torch.testing.assert_close(features, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_features_come_with_what_the_vision_tower_gave(make_model):
    model = make_model(vision_chunk_size=3)
    videos = pixels(2, 4)
    lengths = torch.tensor([4, 2])
    outputs = model.get_video_features(videos, video_num_frames=lengths, output_hidden_states=True)
    frames = torch.cat([video[:length] for video, length in zip(videos, lengths, strict=True)])
    tower = model.model.vision_tower(frames, output_hidden_states=True)
    long, short = outputs.last_hidden_state  # (frames, patches, vision width)
    torch.testing.assert_close(torch.cat([long, short[:2]]), tower.last_hidden_state)
    assert not short[2:].any()
    for ours, expected in zip(outputs.hidden_states, tower.hidden_states, strict=True):
        torch.testing.assert_close(ours, expected)
    assert model.get_video_features(videos).hidden_states is None
    images = model.get_image_features(frames, output_attentions=True)
    torch.testing.assert_close(images.last_hidden_state, tower.last_hidden_state)


@torch.no_grad()
def test_the_last_state_of_the_vision_tower_is_left_out_where_nobody_asks(make_model, monkeypatch):
    model = make_model(vision_chunk_size=3)
    videos = pixels(2, 4)
    (first, second), (alone, other) = (
        model.get_video_features(videos, output_last_hidden_state=is_kept).pooler_output for is_kept in (True, False)
    )
    assert torch.equal(first, alone)
    assert torch.equal(second, other)
    assert model.get_video_features(videos, output_last_hidden_state=False).last_hidden_state is None
    assert model.get_image_features(videos[0], output_last_hidden_state=False).last_hidden_state is None
    made = []
    for name in ("get_video_features", "get_image_features"):
        get_features = getattr(LlavaSTModel, name)

        @functools.wraps(get_features)
        def note(*arguments, get_features=get_features, **options):
            outputs = get_features(*arguments, **options)
            made.append(outputs.last_hidden_state)
            return outputs

        monkeypatch.setattr(LlavaSTModel, name, note)
    ids = prompt(2, [IMAGE] * GRID**2, 3, [VIDEO] * video_tokens(4), 4)
    inputs = {"input_ids": ids, "pixel_values": pixels(1), "pixel_values_videos": pixels(1, 4)}
    model(**inputs)
    model.generate(**inputs, max_new_tokens=2)
    assert made == [None] * 4


@torch.no_grad()
def test_left_padded_batch_equals_single_samples(make_model):
    model = make_model()
    samples = [
        {"input_ids": prompt(2, [VIDEO] * video_tokens(4), 3, 44), "offsets": 0.25, "video": pixels(1, 4)},
        {"input_ids": prompt(5, [IMAGE] * GRID**2, [6, 7, 41]), "offsets": 0.5, "image": pixels(1)},
        {"input_ids": prompt([8, 9, 50]), "offsets": 0.0},
    ]
    offsets = []
    for sample in samples:
        row = torch.zeros(sample["input_ids"].shape)
        row[0, -1] = sample["offsets"]
        offsets.append(row)
    mask = left_pad([torch.ones_like(sample["input_ids"]) for sample in samples], 0)
    batch = model(
        left_pad([sample["input_ids"] for sample in samples], 0),
        pixel_values=samples[1]["image"],
        pixel_values_videos=samples[0]["video"],
        coordinate_offsets=left_pad(offsets, 0.0),
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
    ).logits
    for row, (sample, offset) in enumerate(zip(samples, offsets, strict=True)):
        alone = model(
            sample["input_ids"],
            pixel_values=sample.get("image"),
            pixel_values_videos=sample.get("video"),
            coordinate_offsets=offset,
        ).logits[0]
        torch.testing.assert_close(batch[row, -len(alone) :], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_the_fast_stream_only_slow_tokens_are_spliced(make_model):
    model = make_model(splice_fast_tokens=False)
    (features,) = model.get_video_features(pixels(1, 6)).pooler_output
    (both,) = make_model().get_video_features(pixels(1, 6)).pooler_output
    torch.testing.assert_close(features, both[-2 * SLOW_TOKENS :])


@torch.no_grad()
def test_offset_of_a_coordinate_reaches_the_embedding(make_model):
    model = make_model().model
    ids = prompt([2, 41, 50])
    table = model.coordinate_embeddings.input_table
    embeds = model.embed_ids(ids, torch.tensor([[0.0, 0.25, 0.0]]))
    torch.testing.assert_close(embeds[0, 1], 0.75 * table[1] + 0.25 * table[2])
    torch.testing.assert_close(embeds[0, 2], table[10])
    torch.testing.assert_close(embeds[0, 0], model.get_input_embeddings().weight[2])


@torch.no_grad()
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "exactly one of input_ids"),
        ({"input_ids": prompt([2] + [VIDEO] * 5), "pixel_values_videos": pixels(1, 4)}, "5 video placeholders"),
        ({"input_ids": prompt([2] + [IMAGE] * 5), "pixel_values": pixels(1)}, "5 image placeholders"),
        ({"input_ids": prompt([2]), "pixel_values": pixels(1), "mm_encoder_outputs": {"image": None}}, "not both"),
    ],
)
def test_wrong_inputs_are_refused_by_name(make_model, inputs, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_model()(**inputs)


# Loss ------------------------------------------------------------------------------------------------------------


def full_logits_loss(model, inputs: dict, labels: torch.Tensor) -> torch.Tensor:
    """The loss from logits of every position and dense soft targets, in float32."""
    logits = model(**inputs).logits[:, :-1].float()
    offsets = inputs["coordinate_offsets"][:, 1:]
    labels = labels[:, 1:]
    supervised = labels != -100
    targets = torch.zeros_like(logits)
    index = labels.clamp(min=0).unsqueeze(-1)
    targets.scatter_add_(-1, index, (1 - offsets).unsqueeze(-1))
    targets.scatter_add_(-1, (index + 1).clamp(max=logits.shape[-1] - 1), offsets.unsqueeze(-1))
    return -(targets * logits.log_softmax(-1)).sum(-1)[supervised].mean()


@pytest.mark.parametrize("chunk", [1, 2, 256])
def test_loss_and_gradients_equal_those_of_full_logits(make_model, chunk):
    model = make_model(loss_chunk_size=chunk)
    ids = prompt([2, 3, 42, 44, 5, 6, 48, 53])
    inputs = {"input_ids": ids, "coordinate_offsets": torch.tensor([[0, 0, 0.3, 0.9, 0, 0, 0.5, 0]])}
    labels = torch.where(torch.arange(8)[None] < 2, -100, ids)
    expected = full_logits_loss(model, inputs, labels)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    output = model(**inputs, labels=labels)
    output.loss.backward()
    assert output.logits is None
    torch.testing.assert_close(output.loss, expected)
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-4, msg=name)


@torch.no_grad()
def test_labels_that_were_shifted_before_give_the_same_loss(make_model):
    model = make_model()
    ids = prompt([2, 3, 42, 44, 5, 48])
    inputs = {"input_ids": ids, "coordinate_offsets": torch.tensor([[0, 0, 0.3, 0.9, 0, 0.5]])}
    shifted = F.pad(ids[:, 1:], (0, 1), value=-100)
    other = torch.zeros_like(ids)
    for labels in (None, other):  # what is shifted already counts
        loss = model(**inputs, labels=labels, shift_labels=shifted).loss
        torch.testing.assert_close(loss, model(**inputs, labels=ids).loss)


def test_chunks_under_autocast_give_the_gradients_of_one_chunk(make_model):
    ids = prompt([2, 3, 42, 44, 5, 6, 48, 53])
    gradients = {}
    for chunk in (2, 256):
        model = make_model(loss_chunk_size=chunk)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        gradients[chunk] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradients[2], gradients[256], atol=0.02, rtol=0.02)


def test_a_frozen_head_gets_no_gradient_and_passes_one_on(make_model):
    model = make_model(loss_chunk_size=2)
    model.lm_head.requires_grad_(False)
    model.model.coordinate_embeddings.output_table.requires_grad_(False)
    ids = prompt([2, 3, 42, 44, 5])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad is None
    assert model.model.coordinate_embeddings.output_table.grad is None
    assert model.model.language_model.layers[0].mlp.up_proj.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_num_items_in_batch_scales_the_sum(make_model):
    model = make_model()
    ids = prompt([2, 3, 42, 44])
    mean = model(input_ids=ids, labels=ids).loss
    for items in (6, torch.tensor(6)):
        torch.testing.assert_close(model(input_ids=ids, labels=ids, num_items_in_batch=items).loss, mean * 3 / 6)


def test_a_batch_without_supervised_tokens_gives_zero_and_a_graph(make_model):
    model = make_model()
    ids = prompt([2, 3])
    loss = model(input_ids=ids, labels=torch.full_like(ids, -100)).loss
    loss.backward()
    assert loss == 0


@pytest.mark.parametrize("chunk", [1, 256])
def test_figures_of_each_token_belong_to_the_loss(make_model, chunk):
    model = make_model(loss_chunk_size=chunk)
    ids = torch.tensor([[2, 3, 40, 47, 5], [2, 3, 4, 41, 5]])  # 40 and more are coordinates
    labels = torch.where(torch.arange(5) > 1, ids, -100)
    offsets = torch.zeros(2, 5)
    offsets[0, 2] = 0.25
    inputs = {"input_ids": ids, "labels": labels, "coordinate_offsets": offsets}
    plain = model(**inputs)
    assert plain.token_losses is None and plain.coordinate_errors is None
    outputs = model(**inputs, output_token_losses=True)
    assert outputs.loss == plain.loss
    assert not outputs.token_losses.requires_grad and not outputs.coordinate_errors.requires_grad
    torch.testing.assert_close(outputs.token_losses.mean(), outputs.loss.detach())
    with torch.no_grad():
        logits = model(input_ids=ids, coordinate_offsets=offsets).logits[:, 1:-1]  # they name positions 2 to 4
    expected = []
    starts = [model.config.coordinate_token_offset]
    for size in model.config.axis_sizes:
        starts.append(starts[-1] + size)
    for row, position in [(row, position) for row in range(2) for position in range(3)]:
        token = int(ids[row, position + 2])
        axis = next((axis for axis in range(3) if starts[axis] <= token < starts[axis + 1]), None)
        if axis is None:
            expected.append(torch.nan)
            continue
        likeliest = starts[axis] + int(logits[row, position, starts[axis] : starts[axis + 1]].argmax())
        expected.append(abs(likeliest - token - float(offsets[row, position + 2])))
    assert sum(value == value for value in expected) == 3
    torch.testing.assert_close(outputs.coordinate_errors, torch.tensor(expected), equal_nan=True)
    outputs.loss.backward()


def test_loss_does_not_overflow_in_half_precision(make_model):
    model = make_model().half()
    ids = torch.full((2, 900), 3)
    large = torch.full((2, 900, 32), 30.0, dtype=torch.float16)  # its sum is beyond half precision
    loss, *_ = model._compute_loss(large, ids, None, model.model.coordinate_embeddings.output_table, None)
    assert torch.isfinite(loss)


def test_head_is_never_asked_for_an_unsupervised_position(make_model):
    model = make_model(loss_chunk_size=2)
    rows = []
    model.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[0]))
    ids = prompt(list(range(2, 30)))
    labels = torch.full_like(ids, -100)
    labels[0, -3:] = ids[0, -3:]
    with torch.no_grad():
        model(input_ids=ids, labels=labels)
    assert rows == [2, 1]


# Saving and the Auto classes ----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_save_and_load_through_the_auto_classes(make_model, make_config, tmp_path, tied):
    config = make_config(tie_word_embeddings=tied)
    config.text_config.tie_word_embeddings = tied
    model = make_model(tie_word_embeddings=tied) if not tied else LlavaSTForConditionalGeneration(config).eval()
    model.save_pretrained(tmp_path)
    inputs = video_inputs(3)
    expected = model(**inputs)
    assert type(AutoConfig.from_pretrained(tmp_path)) is LlavaSTConfig
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        loaded, info = auto_class.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is LlavaSTForConditionalGeneration
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        torch.testing.assert_close(loaded.eval()(**inputs).logits, expected.logits)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base) is LlavaSTModel
    assert not info["missing_keys"]
    torch.testing.assert_close(
        base.eval()(**inputs).last_hidden_state, model.model(**inputs).last_hidden_state, atol=1e-6, rtol=1e-6
    )


def test_saved_names_are_ours(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as tensors:
        names = set(tensors.keys())
    assert "model.coordinate_embeddings.input_table" in names
    assert "model.packer.slow.query_proj.weight" in names
    assert not any("vision_resampler" in name or "mm_projector" in name for name in names)


def test_the_published_layout_is_not_written(make_model, tmp_path):
    with pytest.raises(ValueError, match="save_original_format is True"):
        make_model().save_pretrained(tmp_path, save_original_format=True)
    assert not list(tmp_path.iterdir())


def test_initialisation_is_the_published_one(make_config):
    torch.manual_seed(0)
    tables = LlavaSTModel(make_config(num_spatial_tokens=200, num_temporal_tokens=200)).coordinate_embeddings
    assert tables.input_table.std().item() == pytest.approx(1.0, abs=0.05)
    assert tables.output_table.abs().max().item() <= 32**-0.5
    assert tables.output_table.std().item() == pytest.approx((2 * 32**-0.5) / 12**0.5, rel=0.05)


def test_resizing_the_vocabulary_is_refused(make_model):
    with pytest.raises(NotImplementedError, match="coordinate_token_offset=40"):
        make_model().resize_token_embeddings(60)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"temporal_stride": 0}, "temporal_stride is 0"),
        ({"packer_num_heads": 3}, "packer_hidden_size is 16"),
        ({"packer_hidden_size": 0}, "packer_hidden_size is 0"),
        ({"num_temporal_tokens": 1}, "num_temporal_tokens is 1"),
        ({"coordinate_token_offset": 41}, "coordinate_token_offset is 41"),
        ({"video_token_id": 38}, "both 38"),
        ({"vision_chunk_size": 0}, "vision_chunk_size is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make_config, overrides, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        make_config(**overrides)


@pytest.mark.parametrize("size", ["temporal_stride", "spatial_stride", "loss_chunk_size"])
def test_a_size_that_is_changed_while_loading_is_checked(checkpoint, size):
    with pytest.raises(ValueError, match=f"{size} is 0: it must be at least 1"):
        LlavaSTForConditionalGeneration.from_pretrained(checkpoint, **{size: 0})
