"""The scripts of `make tiny`: the model that the stages start from, and what ablations leave out."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.evaluation.runner import fingerprint_weights
from llava_st_hf.processing import notation_llava_st as notation
from llava_st_hf.processing.media_llava_st import InputError

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
            module.make_checkpoint(folder, steps=2, seed=3, bf16=True)
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
            assert alike.diagonal(40).abs().mean() < 0.35  # a quarter of each row is slow waves


def test_a_clip_has_as_many_features_as_placeholders(start):
    processor = LlavaSTProcessor.from_pretrained(start[0])
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    clips = ShapesDataset(["stvg"], 2, seed=5)
    batch = LlavaSTDataCollator(processor)([clips[0], clips[1]])
    assert torch.isfinite(model(**batch).loss)


def find_cell(item, frame, grid_size):
    """Return which cell the middle of an object is in."""
    column, row = (int(value * grid_size // 72) for value in item.centers[frame])
    return row * grid_size + column


@pytest.mark.parametrize("grid_size", [4, 8])
def test_cells_are_labelled_with_the_object_they_show_and_what_it_does(scripts, grid_size):
    scene_labels = scripts("scene_labels")
    clips = ShapesDataset(["svg"], 30, seed=5, difficulty="easy")  # nothing hides another
    shown = []
    for index in range(30):
        scene = clips.make_scene(index)
        labels = scene_labels.label_scene(scene, grid_size)
        for number, item in enumerate(scene.objects):
            for segment in item.segments:
                words = {word for word in segment.name.split() if word in scene_labels.EVENT_WORDS}
                for frame in range(segment.first_frame, segment.last_frame + 1):
                    if not item.visible[frame]:
                        assert not (labels.owners[frame] == number).any()
                        continue
                    cell = find_cell(item, frame, grid_size)
                    shown.append(labels.owners[frame, cell] == number)
                    if not shown[-1]:  # it is small, and its middle near the edge of a cell
                        continue
                    color, shape = labels.cell_names[frame, cell]
                    assert scene_labels.NAMES[0][color] == item.color
                    assert scene_labels.NAMES[1][shape] == item.shape
                    said = labels.cell_events[frame, cell, :-1].nonzero()[:, 0].tolist()
                    assert {scene_labels.EVENT_WORDS[word] for word in said} == words
                    late = segment.is_event and segment.name != "flashes"  # it shows one frame after it began
                    assert labels.cell_known[frame, cell] == (not late or frame > segment.first_frame)
                    starts = bool(words) and segment.name != "stops" and frame == segment.first_frame + late
                    assert labels.cell_events[frame, cell, -1] == starts
                    if starts:
                        start = labels.cell_starts[frame, cell, 0] / (2 * 3**0.5) + 0.5
                        assert start.item() == pytest.approx(scene.get_time(segment.first_frame), abs=1e-5)
                    left, top, right, bottom = labels.cell_codes[frame, cell, :4] / (2 * 3**0.5) + 0.5
                    assert torch.tensor([left, top, right, bottom]).tolist() == pytest.approx(
                        scene.get_box(item, frame), abs=1e-5
                    )
                    assert labels.cell_codes[frame, cell, -1] == 2 * item.bright[frame]
    assert sum(shown) > 0.95 * len(shown)


def test_what_hides_another_owns_the_cell(scripts):
    scene_labels = scripts("scene_labels")
    clips = ShapesDataset(["svg"], 60, seed=5)
    num_hidden = 0
    for index in range(60):
        scene = clips.make_scene(index)
        owners = scene_labels.label_scene(scene, 8).owners
        alone = [
            scene_labels.label_scene(replace(scene, objects=(item,)), 8).owners == 0 for item in scene.objects
        ]  # what each would own without the others
        for number, mine in enumerate(alone):
            in_front = torch.stack([*alone[number + 1 :], torch.zeros_like(mine)]).any(0)
            assert (owners[mine & ~in_front] == number).all()
            assert (owners[mine & in_front] > number).all()
            num_hidden += int((mine & in_front).sum())
    assert num_hidden > 100


def test_features_are_read_as_they_were_written(scripts):
    scene_labels = scripts("scene_labels")
    directions = scene_labels.make_code_directions(64)
    codes = torch.randn(5, scene_labels.CODE_SIZE)
    assert torch.allclose(scene_labels.read_codes(codes @ directions, directions), codes, atol=1e-5)
    rows = torch.linalg.qr(torch.randn(64, 6))[0].T * 8  # mean square 1
    shares = torch.rand(5, 6)
    assert torch.allclose(scene_labels.read_shares(shares @ rows, rows), shares, atol=1e-5)


def test_pretraining_lets_patches_say_what_they_show(scripts, start):
    """Colours, and about where the edges are, are told within a few steps."""
    pretraining, scene_labels = scripts("pretrain_vision_tower"), scripts("scene_labels")
    model = LlavaSTForConditionalGeneration.from_pretrained(start[0])
    processor = LlavaSTProcessor.from_pretrained(start[0])
    rows = model.get_input_embeddings().weight.clone()
    pretraining.pretrain_vision_tower(model, processor, num_steps=60, seed=0, bf16=False)
    assert torch.equal(rows, model.get_input_embeddings().weight)
    images = ShapesDataset(["rec"], 16, seed=5, difficulty="easy")
    pixels = LlavaSTDataCollator(processor)([images[index] for index in range(16)])["pixel_values"]
    labels = [scene_labels.label_scene(images.make_scene(index), 8) for index in range(16)]
    shown = torch.cat([label.owners for label in labels]) >= 0
    colors = torch.cat([label.cell_names for label in labels])[shown][:, 0]
    edges = torch.cat([label.cell_codes for label in labels])[shown][:, :4]
    # As the model itself reads them.
    features = torch.stack(model.model.get_image_features(pixels).pooler_output)
    time, place = model.model._positions()
    patches = (features - (place + time[0]).flatten(0, 1))[shown]
    said = scene_labels.read_shares(patches, pretraining.find_rows(model, processor, scene_labels.NAMES[0]))
    assert (said.argmax(-1) == colors).float().mean() > 0.6
    found = scene_labels.read_codes(patches, scene_labels.make_code_directions(patches.shape[-1]))[:, :4]
    assert (found - edges).abs().mean() < 0.7 * (edges - edges.mean(0)).abs().mean()


def test_words_of_more_than_one_token_are_refused(scripts, start):
    processor = LlavaSTProcessor.from_pretrained(start[0])
    with pytest.raises(ValueError, match="unheard are not one token each"):
        scripts("pretrain_vision_tower").find_ids(processor, ("red", "unheard"))


@pytest.fixture
def load(start):
    """Load the start with eager attention."""

    def load():
        implementation = {"text_config": "eager", "vision_config": "sdpa"}
        model = LlavaSTForConditionalGeneration.from_pretrained(start[0], attn_implementation=implementation)
        return model.train(), LlavaSTProcessor.from_pretrained(start[0])

    return load


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


def test_the_fast_stream_is_run_as_the_model_runs_it(scripts, load):
    model, processor = load()
    clips = ShapesDataset(["svg"], 2, seed=5)
    batch = LlavaSTDataCollator(processor)([clips[0], clips[1]])
    stream = scripts("pretrain_events").FastStream(model)
    with torch.no_grad():
        tokens, hidden, attentions = stream.run(batch)
        whole = model.model(**batch, output_hidden_states=True, output_attentions=True)
    start = int((batch["input_ids"][0] == model.config.video_token_id).nonzero()[0, 0])
    part = slice(start, start + tokens.shape[1])
    assert tokens.shape == hidden.shape == (2, 20 * 16, 128)
    assert torch.allclose(tokens, whole.hidden_states[0][:, part], atol=1e-5)
    assert torch.allclose(hidden, whole.hidden_states[2][:, part], atol=1e-3)
    for layer, attention in enumerate(attentions):
        assert torch.allclose(attention, whole.attentions[layer][:, :, part, part], atol=1e-4)


def test_pretraining_events_changes_the_first_layers_alone_and_is_the_same_each_time(scripts, load, monkeypatch):
    pretraining = scripts("pretrain_events")
    monkeypatch.setattr(pretraining, "BATCH_SIZE", 4)
    weights = []
    for _ in range(2):
        model, processor = load()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pretraining.pretrain_events(model, processor, num_steps=12, seed=5, bf16=True)
        after = model.state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved
        assert all(".packer." in name or ".layers.0." in name or ".layers.1." in name for name in moved)
        assert not any("vision_tower" in name for name in moved)
        assert all(parameter.requires_grad for parameter in model.parameters())
        weights.append(after)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("name", ["pretrain_vision_tower", "pretrain_events", "pretrain_lookups"])
@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_scripts_run_in_the_precision_that_is_asked_for(scripts, load, monkeypatch, name, bf16, dtype):
    script = scripts(name)
    for size in ("CLIPS_PER_STEP", "IMAGES_PER_STEP", "BATCH_SIZE"):
        monkeypatch.setattr(script, size, 2, raising=False)
    model, processor = load()
    found = set()
    model.model.multi_modal_projector.linear_1.register_forward_hook(
        lambda _module, _inputs, output: found.add(output.dtype)
    )
    getattr(script, name)(model, processor, num_steps=3, seed=0, bf16=bf16)
    assert found == {dtype}


def test_objects_follow_themselves(scripts):
    """By hand: one object that moves from cell to cell, background elsewhere."""
    pretraining, scene_labels = scripts("pretrain_events"), scripts("scene_labels")
    owners = torch.full((4, 4), -1)
    owners[0, 1] = owners[1, 2] = owners[2, 2] = owners[3, 3] = 0
    labels = scene_labels.SceneLabels(owners, None, None, None, None, None)
    attention = torch.full((1, 4, 16, 16), 1e-9)
    place = {frame: 4 * frame + int(owners[frame].argmax()) for frame in range(4)}
    for head, back in ((2, 1), (3, 2)):
        for frame in range(back, 4):
            attention[0, head, place[frame], place[frame - back]] = 0.5
    second = torch.zeros(1, 4, 16, 16)
    second[0, 3, place[3], place[0]] = 0.25
    loss = pretraining.compute_following_loss([attention, second], [labels])
    assert loss.item() == pytest.approx(2 * 0.6931 + 1.3863, abs=1e-3)


def test_pretraining_lookups_turns_attention(scripts, load, monkeypatch):
    pretraining = scripts("pretrain_lookups")
    for name, value in {"CLIPS_PER_STEP": 4, "IMAGES_PER_STEP": 4, "WARMUP_STEPS": 2}.items():
        monkeypatch.setattr(pretraining, name, value)
    model, processor = load()
    images = ShapesDataset(["rec"], 8, seed=7, difficulty="easy")
    batch = LlavaSTDataCollator(processor)([images[index] for index in range(8)])
    label_scene = scripts("scene_labels").label_scene
    asking, finding = pretraining.AnswerReader(model, processor).mark(
        batch, [label_scene(images.make_scene(index), 8) for index in range(8)]
    )

    def measure() -> list[float]:
        with torch.no_grad():
            attentions = model(**batch, output_attentions=True).attentions
        heads = ((pretraining.ASKING_HEADS[0], asking), (pretraining.FINDING_HEADS[0], finding))
        return [
            pretraining.compute_attention_loss(attentions[layer][:, head], wanted).item()
            for (layer, head), wanted in heads
        ]

    before = measure()
    pretraining.pretrain_lookups(model, processor, num_steps=25, seed=0, bf16=False)
    after = measure()
    assert after[0] < before[0] - 1
    assert after[1] < before[1] - 0.3
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_pretraining_lookups_keeps_the_tower_and_is_the_same_each_time(scripts, load, monkeypatch):
    pretraining = scripts("pretrain_lookups")
    monkeypatch.setattr(pretraining, "CLIPS_PER_STEP", 2)
    monkeypatch.setattr(pretraining, "IMAGES_PER_STEP", 2)
    weights = []
    for _ in range(2):
        model, processor = load()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        pretraining.pretrain_lookups(model, processor, num_steps=6, seed=0, bf16=True)
        after = model.state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before if "vision_tower" in name)
        assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
        weights.append(after)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def read_looks(scripts, load, task, num_cells, count=10):
    """Yield, for each question about a scene, its turn, and of each marked token what it should look at and for."""
    model, processor = load()
    reader, label_scene = (
        scripts("pretrain_lookups").AnswerReader(model, processor),
        scripts("scene_labels").label_scene,
    )
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


def test_a_span_is_looked_up_at_its_ends(scripts, load):
    num_found, num_of_two_clauses = 0, 0
    for scene, question, _, looks in read_looks(scripts, load, "tvg", 4, count=30):
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


def test_words_about_a_span_are_looked_up_within_it(scripts, load):
    num_found, num_asked = 0, 0
    for scene, _, answer, looks in read_looks(scripts, load, "tr", 4):
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
def test_a_box_is_looked_up_where_its_object_is(scripts, load, task, num_cells):
    found, missed = 0, 0
    for scene, question, answer, looks in read_looks(scripts, load, task, num_cells):
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


def test_what_ships_loads_and_has_a_card_with_its_metrics(scripts, start, tmp_path, monkeypatch):
    shipping = scripts("ship_checkpoint")
    tvg = {"metrics": {"R@0.5": 0.876}, "baseline": {"R@0.5": 0.123}, "headline": ["R@0.5"]}
    tvg |= {"items": 9, "failures": {}}
    settings = {"num_clips": 9, "num_frames": 20, "size": 72, "difficulty": "standard", "seed": 1_000_000}
    settings |= {"protocol": "default", "weights": "those of another model"}

    def ship(folder: str = "shipped") -> None:
        (tmp_path / "metrics.json").write_text(json.dumps({"tasks": {"tvg": tvg}, "settings": settings}))
        shipping.ship_checkpoint(start[0], tmp_path, tmp_path / folder)

    with pytest.raises(ValueError, match="evaluate it again"):
        ship()
    settings["weights"] = fingerprint_weights(LlavaSTForConditionalGeneration.from_pretrained(start[0]))
    ship()
    ship()  # what is there is replaced
    card = (tmp_path / "shipped" / "README.md").read_text()
    assert "0.876" in card
    assert "0.123" in card
    assert "seed\n1000000" in card
    assert {path.name for path in (tmp_path / "shipped").iterdir()} == {*shipping.FILES, "README.md"}
    model = LlavaSTForConditionalGeneration.from_pretrained(tmp_path / "shipped")
    assert f"{model.num_parameters():,} parameters" in card
    assert LlavaSTProcessor.from_pretrained(tmp_path / "shipped").chat_template
    with pytest.raises(ValueError, match=r"'metrics\.json', which is of no checkpoint"):
        ship(".")
    monkeypatch.setattr(shipping, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="no more than 1,000 ship"):
        ship("again")
    assert not (tmp_path / "again").exists()


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


@pytest.mark.parametrize("variant", ["full", "published_fast_stream"])
def test_an_ablation_starts_with_a_new_packer_and_new_coordinate_rows(scripts, tmp_path, variant):
    ablation = scripts("ablation")
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        ablation.write_start(variant, tmp_path / name, seed)
    first, again, other, shipped = (
        LlavaSTForConditionalGeneration.from_pretrained(folder)
        for folder in (tmp_path / "first", tmp_path / "again", tmp_path / "other", SHIPPED_CHECKPOINT)
    )
    weights = [model.state_dict() for model in (again, other, shipped)]
    same = [{name for name, value in first.state_dict().items() if torch.equal(value, each[name])} for each in weights]
    anew = {name for name in weights[0] if ".packer." in name or "_table" in name}
    drawn = {name for name in anew if weights[0][name].std() > 0}  # not norms and biases
    assert len(drawn) > 20
    assert same[0] == weights[0].keys()
    assert same[1] == weights[0].keys() - drawn
    assert weights[0].keys() - same[2] == anew
    is_full = variant == "full"
    assert first.config.splice_fast_tokens == is_full
    assert LlavaSTProcessor.from_pretrained(tmp_path / "first").splice_fast_tokens == is_full


def test_an_ablation_is_trained_once_and_with_one_setting(scripts, tmp_path, monkeypatch):
    ablation = scripts("ablation")
    recipes = []
    monkeypatch.setattr(ablation, "write_start", lambda variant, folder, seed: folder.mkdir(parents=True))
    monkeypatch.setattr(ablation, "run_recipe", recipes.append)
    for _ in range(2):
        assert ablation.train("full", tmp_path, 400, 3, False) == tmp_path / "trained"
    (recipe,) = recipes
    whole = ablation.read_recipe(TINY / "stage3" / "sft.yaml").data.st_shapes
    assert recipe.data.st_shapes == whole | {"num_samples": 400, "seed": 8}
    assert Path(recipe.model.model_name_or_path) == tmp_path / "start"
    training = recipe.training
    assert (training.bf16, training.seed, training.output_dir) == (False, 3, str(tmp_path / "trained"))
    with pytest.raises(InputError, match=r"was trained with .*400.*, not .*800.*: give another --output-dir"):
        ablation.train("full", tmp_path, 800, 3, False)


def test_the_table_of_an_ablation_has_each_seed_beside_the_blind_baseline(scripts):
    def tasks(recall: float) -> dict:
        return {"tvg": {"metrics": {"R@0.5": recall, "m_tIoU": 0}, "baseline": {"R@0.5": 0.22}, "headline": ["R@0.5"]}}

    table = scripts("ablation").format_table({"full": [tasks(0.5), tasks(0.25)], "no_ntp": [tasks(0.125), tasks(1)]})
    assert table.splitlines() == [
        "| metric | blind baseline | full | no_ntp |",
        "| --- | --- | --- | --- |",
        "| tvg R@0.5 | 0.220 | 0.500 0.250 | 0.125 1.000 |",
    ]


def test_average_pooling_counts_what_exists(scripts):
    regions = torch.tensor([[[1.0], [3.0], [100.0]]])
    pool_average = scripts("ablation").pool_average
    assert pool_average(None, regions, None, torch.tensor([True, True, False])).item() == 2
    assert pool_average(None, regions[:, :2], None).item() == 2
