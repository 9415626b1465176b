"""The tiny model without its parts: what each variant leaves out, and the table."""

from pathlib import Path

import ablation
import pytest
import torch

from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.data.collator import LlavaSTDataCollator
from llava_st_hf.data.shapes import ShapesDataset
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.processing.media_llava_st import InputError


def get_features(model, processor):
    clips = ShapesDataset(["stvg"], 1, seed=5)
    pixels = LlavaSTDataCollator(processor)([clips[0]])["pixel_values_videos"]
    return model.model.get_video_features(pixels).pooler_output[0]


def test_each_variant_leaves_out_its_part():
    model = LlavaSTForConditionalGeneration.from_pretrained(SHIPPED_CHECKPOINT)
    processor = LlavaSTProcessor.from_pretrained(SHIPPED_CHECKPOINT)
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
def test_an_ablation_starts_with_a_new_packer_and_new_coordinate_rows(tmp_path, variant):
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


def test_an_ablation_is_trained_once_and_with_one_setting(tmp_path, monkeypatch):
    recipes = []
    monkeypatch.setattr(ablation, "write_start", lambda variant, folder, seed: folder.mkdir(parents=True))
    monkeypatch.setattr(ablation, "run_recipe", recipes.append)
    for _ in range(2):
        assert ablation.train("full", tmp_path, 400, 3, False) == tmp_path / "trained"
    (recipe,) = recipes
    whole = ablation.read_recipe(ablation.RECIPE).data.st_shapes
    assert recipe.data.st_shapes == whole | {"num_samples": 400, "seed": 8}
    assert Path(recipe.model.model_name_or_path) == tmp_path / "start"
    training = recipe.training
    assert (training.bf16, training.seed, training.output_dir) == (False, 3, str(tmp_path / "trained"))
    with pytest.raises(InputError, match=r"was trained with .*400.*, not .*800.*: give another --output-dir"):
        ablation.train("full", tmp_path, 800, 3, False)


def test_the_table_of_an_ablation_has_each_seed_beside_the_blind_baseline():
    def tasks(recall: float) -> dict:
        return {"tvg": {"metrics": {"R@0.5": recall, "m_tIoU": 0}, "baseline": {"R@0.5": 0.22}, "headline": ["R@0.5"]}}

    table = ablation.format_metrics({"full": [tasks(0.5), tasks(0.25)], "no_ntp": [tasks(0.125), tasks(1)]})
    assert table.splitlines() == [
        "| metric    | blind baseline | full        | no_ntp      |",
        "| --------- | -------------: | ----------- | ----------- |",
        "| tvg R@0.5 |          0.220 | 0.500 0.250 | 0.125 1.000 |",
    ]


def test_average_pooling_counts_what_exists():
    regions = torch.tensor([[[1.0], [3.0], [100.0]]])
    pool_average = ablation.pool_average
    assert pool_average(None, regions, None, torch.tensor([True, True, False])).item() == 2
    assert pool_average(None, regions[:, :2], None).item() == 2
