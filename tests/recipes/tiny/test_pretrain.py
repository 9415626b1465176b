"""The steps before the stages of the tiny model."""

import pretrain
import pytest
import torch
from pretrain import AnswerReader, Pretraining
from scene_labels import NAMES, OBJECT_CODE, SceneLabels, label_scene, read_shares

from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.processing import notation_llava_st as notation

STEPS = (pretrain.pretrain_tower, pretrain.pretrain_events, pretrain.pretrain_lookups)


@pytest.fixture
def small_steps(monkeypatch):
    """Few samples for each step."""
    for name in ("TOWER_CLIPS", "TOWER_IMAGES", "EVENT_CLIPS", "LOOKUP_CLIPS", "LOOKUP_IMAGES"):
        monkeypatch.setattr(pretrain, name, 2)


def test_the_start_is_the_same_each_time_and_small(start, write_start, tmp_path):
    write_start(tmp_path)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (start, tmp_path / "start")]
    assert weights[0] == weights[1]
    assert sum(path.stat().st_size for path in start.iterdir()) < 10e6


@pytest.mark.slow
def test_pretraining_lets_patches_say_what_they_show(load):
    """Colours, and about where the edges are, are told within a few steps."""
    model, processor = load()
    rows = model.get_input_embeddings().weight.clone()
    pretraining = Pretraining(model, processor, seed=0, bf16=False)
    pretrain.pretrain_tower(pretraining, num_steps=60)
    assert torch.equal(rows, model.get_input_embeddings().weight)
    images = ShapesDataset(["rec"], 16, seed=5, difficulty="easy")
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(16)])["pixel_values"]
    labels = [label_scene(images.make_scene(index), 8) for index in range(16)]
    shown = torch.cat([label.owners for label in labels]) >= 0
    colors = torch.cat([label.names for label in labels])[shown][:, 0]
    edges = torch.cat([label.codes for label in labels])[shown][:, :4]
    # As the model itself reads them.
    features = torch.stack(model.model.get_image_features(pixels).pooler_output)
    time, place = model.model._positions()
    patches = (features - (place + time[0]).flatten(0, 1))[shown]
    said = read_shares(patches, pretraining.find_rows(NAMES[0]))
    assert (said.argmax(-1) == colors).float().mean() > 0.6
    found = OBJECT_CODE.read(patches)[:, :4]
    assert (found - edges).abs().mean() < 0.7 * (edges - edges.mean(0)).abs().mean()


def test_words_of_more_than_one_token_are_refused(load):
    with pytest.raises(ValueError, match="unheard are not one token each"):
        pretrain.find_ids(load()[1], ("red", "unheard"))


def test_a_step_asks_for_the_one_before_it(tmp_path):
    with pytest.raises(ValueError, match="start is not there: run the step start first"):
        pretrain.run_step("events", tmp_path, num_steps=1, seed=0, bf16=False)


def test_the_fast_stream_is_run_as_the_model_runs_it(load):
    model, processor = load()
    clips = ShapesDataset(["svg"], 2, seed=5)
    batch = LlavaSTDataCollator(processor)([clips[0], clips[1]])
    with torch.no_grad():
        tokens, hidden, attentions = pretrain.run_fast_stream(model, batch)
        whole = model.model(**batch, output_hidden_states=True, output_attentions=True)
    start = int((batch["input_ids"][0] == model.config.video_token_id).nonzero()[0, 0])
    part = slice(start, start + tokens.shape[1])
    assert tokens.shape == hidden.shape == (2, 20 * 16, 128)
    assert torch.allclose(tokens, whole.hidden_states[0][:, part], atol=1e-5)
    assert torch.allclose(hidden, whole.hidden_states[2][:, part], atol=1e-3)
    for layer, attention in enumerate(attentions):
        assert torch.allclose(attention, whole.attentions[layer][:, :, part, part], atol=1e-4)


def test_pretraining_events_changes_the_first_layers_alone_and_is_the_same_each_time(load, small_steps):
    weights = []
    for _ in range(2):
        model, processor = load()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pretrain.pretrain_events(Pretraining(model, processor, seed=5, bf16=True), num_steps=6)
        after = model.state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved
        assert all(".packer." in name or ".layers.0." in name or ".layers.1." in name for name in moved)
        assert not any("vision_tower" in name for name in moved)
        assert all(parameter.requires_grad for parameter in model.parameters())
        weights.append(after)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_steps_run_in_the_precision_that_is_asked_for(load, small_steps, step, bf16, dtype):
    model, processor = load()
    found = set()
    model.model.multi_modal_projector.linear_1.register_forward_hook(
        lambda _module, _inputs, output: found.add(output.dtype)
    )
    step(Pretraining(model, processor, seed=0, bf16=bf16), num_steps=2)
    assert found == {dtype}


def test_objects_follow_themselves():
    """By hand: one object that moves from cell to cell, background elsewhere."""
    owners = torch.full((4, 4), -1)
    owners[0, 1] = owners[1, 2] = owners[2, 2] = owners[3, 3] = 0
    labels = SceneLabels(None, owners, None, None, None, None, None)
    attention = torch.full((1, 4, 16, 16), 1e-9)
    place = {frame: 4 * frame + int(owners[frame].argmax()) for frame in range(4)}
    for head, back in ((2, 1), (3, 2)):
        for frame in range(back, 4):
            attention[0, head, place[frame], place[frame - back]] = 0.5
    second = torch.zeros(1, 4, 16, 16)
    second[0, 3, place[3], place[0]] = 0.25
    loss = pretrain.compute_following_loss([attention, second], [labels])
    assert loss.item() == pytest.approx(2 * 0.6931 + 1.3863, abs=1e-3)


@pytest.mark.slow
def test_pretraining_lookups_turns_attention(load, monkeypatch):
    for name, value in {"LOOKUP_CLIPS": 4, "LOOKUP_IMAGES": 4, "WARMUP_STEPS": 2}.items():
        monkeypatch.setattr(pretrain, name, value)
    model, processor = load()
    images = ShapesDataset(["rec"], 8, seed=7, difficulty="easy")
    batch = LlavaSTDataCollator(processor)([images[index] for index in range(8)])
    asking, finding = AnswerReader(model, processor).mark(
        batch, [label_scene(images.make_scene(index), 8) for index in range(8)]
    )

    def measure() -> list[float]:
        with torch.no_grad():
            attentions = model(**batch, output_attentions=True).attentions
        heads = ((pretrain.ASKING_HEADS[0], asking), (pretrain.FINDING_HEADS[0], finding))
        return [
            pretrain.compute_attention_loss(attentions[layer][:, head], targets).item()
            for (layer, head), targets in heads
        ]

    before = measure()
    pretrain.pretrain_lookups(Pretraining(model, processor, seed=0, bf16=False), num_steps=25)
    after = measure()
    assert after[0] < before[0] - 1
    assert after[1] < before[1] - 0.3
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_pretraining_lookups_keeps_the_tower_and_is_the_same_each_time(load, small_steps):
    weights = []
    for _ in range(2):
        model, processor = load()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pretrain.pretrain_lookups(Pretraining(model, processor, seed=0, bf16=True), num_steps=3)
        after = model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before if "vision_tower" in name)
        assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
        weights.append(after)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def read_looks(load, task, num_cells, count=10):
    """Yield, for each question about a scene, its turn, and of each marked token what it should look at and for."""
    model, processor = load()
    reader = AnswerReader(model, processor)
    dataset = ShapesDataset([task], count, seed=5)
    for index in range(count):
        (question, answer), scene = (turn["content"] for turn in dataset[index].messages), dataset.make_scene(index)
        batch, labels = LlavaSTDataCollator(processor)([dataset[index]]), label_scene(scene, num_cells)
        ids = batch["input_ids"][0]
        tokens = [token.lstrip("Ġ") for token in processor.tokenizer.convert_ids_to_tokens(ids)]
        asking, finding = reader.mark(batch, [labels])
        first = reader.find_media(ids, labels).start
        looks = []
        for position in asking[0].any(-1).nonzero()[:, 0].tolist():
            found = finding[0, position].nonzero()[:, 0] - first
            names = {scene.objects[owner].name for owner in labels.owners.flatten()[found].tolist()}
            frames = set((found // num_cells**2).tolist())
            words = [tokens[word] for word in asking[0, position].nonzero()[:, 0]]
            looks.append((tokens[position + 1], words, names, frames))
        yield scene, question, answer, looks


def read_frame(token: str) -> int:
    return round(int(token[3:-1]) / 99 * 19)


def test_a_span_is_looked_up_at_its_ends(load):
    num_found, num_of_two_clauses = 0, 0
    for scene, question, _, looks in read_looks(load, "tvg", 4, count=30):
        (name,) = {item.name for item in scene.objects if item.name in question}
        clauses = question.partition(name)[2].partition("'")[0].rstrip(".,").split(", then ")
        (start, *from_start), (end, *from_end) = looks
        for words, clause in ((from_start[0], clauses[0]), (from_end[0], clauses[-1])):
            assert words
            assert set(words) <= set(clause.split())
        assert from_start[1] | from_end[1] <= {name}
        assert from_start[2] <= {read_frame(start), read_frame(start) + 1}
        assert from_end[2] <= {read_frame(end) - 1, read_frame(end)}
        num_found += len(from_start[2]) + len(from_end[2])
        num_of_two_clauses += len(clauses) == 2
    assert num_found > 90  # of at most 120
    assert num_of_two_clauses > 0


def test_words_about_a_span_are_looked_up_within_it(load):
    num_found, num_asked = 0, 0
    for scene, _, answer, looks in read_looks(load, "tr", 4):
        (item,) = [item for item in scene.objects if item.name in answer]
        assert [target for target, *_ in looks][:2] == [item.color, item.shape]
        assert len(looks) > 2  # the words for what it does
        for target, words, names, frames in looks:
            assert target in answer
            assert names == {item.name}
            first, last = (read_frame(word) for word in words)
            assert min(frames) >= first and max(frames) <= last
            num_found, num_asked = num_found + len(frames), num_asked + last - first + 1
    assert num_found > 0.7 * num_asked  # in the others it is small, or behind others


@pytest.mark.parametrize(("task", "num_cells"), [("svg", 4), ("rec", 8)])
def test_a_box_is_looked_up_where_its_object_is(load, task, num_cells):
    found, missed = 0, 0
    for scene, question, answer, looks in read_looks(load, task, num_cells):
        fits = {item.name for item in scene.objects if answer.startswith(write_box(scene, item, answer))}
        assert len(fits) == 1
        assert [target[:2] for target, *_ in looks] == ["<x", "<y"] * (answer.count("[<x") * 2)
        for _, words, names, frames in looks:
            assert words[-1].startswith("<t_") == (task == "svg")
            assert words[0] in question
            if not names:  # it is nearly out of sight
                missed += 1
                continue
            found += 1
            assert names == fits
            assert frames == ({read_frame(words[-1])} if task == "svg" else {0})
    assert found > 10 * missed


def write_box(scene, item, answer):
    """Return how an answer begins that is about an object: with its first box."""
    time = float(answer[3 : answer.index(">")]) if answer.startswith("<t=") else 0
    frame = round(time * (scene.num_frames - 1))
    return (answer.split(":")[0] + ":" if answer.startswith("<t=") else "") + notation.write_box(
        scene.get_box(item, frame)
    )
