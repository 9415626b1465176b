"""What `push` sends and refuses, against a Hub on this machine."""

import errno
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import local_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard, constants
from local_hub import hash_file, read_stated_requests
from peft import LoraConfig, PeftModel, get_peft_model
from published_checkpoint import make_published_checkpoint
from random_checkpoint import make_random_adapter

from llava_st_cli import main
from llava_st_hf import LlavaSTForConditionalGeneration, LlavaSTProcessor
from llava_st_hf.demo import SHIPPED_CHECKPOINT
from llava_st_hf.hub import CardOptions, push_folder
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.training import make_lora_config

FRESH = {"POST repos/create": 1, "GET info": 1, "POST validate-yaml": 1, "POST preupload": 1, "POST commit": 1}
WITH_ONE_LARGE_FILE = {**FRESH, "POST objects/batch": 1, "PUT lfs-storage": 1}


@pytest.fixture
def push(hub, capsys):
    """Run the command; return exit code, output and errors."""

    def push(*arguments: str) -> tuple[int, str, str]:
        code = main(["push", *map(str, arguments)])
        captured = capsys.readouterr()
        errors = [line for line in captured.err.splitlines() if line.startswith("llava-st: error")]
        return code, captured.out, "\n".join(errors)

    return push


@pytest.fixture(scope="session")
def adapter(checkpoint, tmp_path_factory) -> Path:
    """An adapter of the random checkpoint with its processor, as a run leaves it."""
    return make_random_adapter(checkpoint, tmp_path_factory.mktemp("adapter"))


def test_a_model_is_one_private_commit(push, hub):
    code, out, _ = push(SHIPPED_CHECKPOINT, "me/tiny")
    assert (code, out) == (0, f"{hub.url}/me/tiny/commit/{hub.repositories['model', 'me/tiny'].commits[-1][0]}\n")
    assert hub.count() == WITH_ONE_LARGE_FILE
    assert sum(WITH_ONE_LARGE_FILE.values()) == read_stated_requests("`push` of a model")
    repository = hub.repositories["model", "me/tiny"]
    assert repository.private and len(repository.commits) == 2
    files = hub.get_files("me/tiny")
    own = {path.name: path.read_bytes() for path in Path(SHIPPED_CHECKPOINT).iterdir() if path.is_file()}
    assert all(files[name] == own[name] for name in ("model.safetensors", "tokenizer.json", "processor_config.json"))
    assert {"modeling_llava_st.py", "processing_llava_st.py", "README.md", "generation_config.json"} <= files.keys()
    assert ".eval_results/st-shapes.yaml" in files
    assert push(SHIPPED_CHECKPOINT, "me/tiny")[0] == 0
    counts = hub.count()
    assert len(repository.commits) == 2 and "PUT lfs-storage" not in counts  # nothing changed
    assert counts.total() == read_stated_requests("`push` of what is there already")


def test_what_an_earlier_push_brought_goes(push, hub, checkpoint, tmp_path):
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    for size, folder in (("500KB", tmp_path / "shards"), ("50GB", tmp_path / "one")):
        model.save_pretrained(folder, max_shard_size=size)
        LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    assert push(tmp_path / "shards", "me/model")[0] == 0
    assert "model.safetensors.index.json" in hub.get_files("me/model")
    assert push(tmp_path / "one", "me/model")[0] == 0
    weights = [name for name in hub.get_files("me/model") if name.startswith("model") and name.endswith("tensors")]
    assert weights == ["model.safetensors"]


def test_methods_of_model_and_processor_give_the_same_repository(push, hub, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    assert push(folder, "me/model", "--public")[0] == 0
    by_command = hub.get_files("me/model")
    for order in (("model", "processor"), ("processor", "model")):
        del hub.repositories["model", "me/model"]
        for part in order:
            kind = {"model": LlavaSTForConditionalGeneration, "processor": LlavaSTProcessor}[part]
            assert "/commit/" in kind.from_pretrained(folder).push_to_hub("me/model", private=False)
        assert hub.get_files("me/model") == by_command
    assert not hub.repositories["model", "me/model"].private


def test_a_card_that_nobody_filled_in_is_not_sent(hub, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    (folder / "README.md").write_text("---\nlibrary_name: transformers\n---\n\n- License: [More Information Needed]\n")
    push_folder(folder, CardOptions("me/model"))
    card = hub.get_files("me/model")["README.md"].decode()
    assert "[More Information Needed]" not in card and "Nothing was measured." in card
    model = LlavaSTForConditionalGeneration.from_pretrained(folder)
    model.name_or_path = model.config._name_or_path = "me/model"  # as one that was loaded from there
    model.push_to_hub("me/model")
    assert hub.get_files("me/model")["README.md"].decode() == card


def test_no_way_of_the_libraries_sends_a_card_of_blanks(hub, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    model.save_pretrained("model", push_to_hub=True, repo_id="me/model", commit_message="Mine")
    LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained("model", push_to_hub=True, repo_id="me/model")
    push_folder(checkpoint, CardOptions("me/again"))
    again = hub.get_files("me/again")
    again["README.md"] = again["README.md"].replace(b"me/again", b"me/model").replace(b"# again", b"# model")
    assert hub.get_files("me/model") == again
    with torch.no_grad():
        model.lm_head.weight += 1  # trained since: its card is not that of the folder
    (checkpoint / "README.md").write_text("# Well known\n")
    model.push_to_hub("me/changed")
    (checkpoint / "README.md").unlink()
    assert b"Well known" not in hub.get_files("me/changed")["README.md"]
    with pytest.raises(InputError, match="ORGANIZATION/NAME"):
        model.save_pretrained("model", push_to_hub=True)

    adapted = get_peft_model(model, make_lora_config(rank=2))
    with pytest.raises(InputError, match="push that model first"):
        adapted.push_to_hub("me/adapter")
    adapted.push_to_hub("me/adapter", base_model="me/model")
    adapted.add_adapter("second", make_lora_config(rank=2))
    adapted.set_adapter("second")
    adapted.push_to_hub("me/second", base_model="me/model")
    adapted.save_pretrained("adapter")
    assert not list(Path("adapter").rglob("README.md"))
    for name in ("me/adapter", "me/second"):
        files = hub.get_files(name)
        assert files.keys() == {".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors"}
        assert ModelCard(files["README.md"].decode()).data.base_model == "me/model"
    for repository in hub.repositories.values():
        assert b"More Information Needed" not in repository.commits[-1][1]["README.md"]


def test_a_bare_config_of_peft_gets_the_card_too(hub, checkpoint, tmp_path, monkeypatch):
    for name in ("push_to_hub", "create_or_update_model_card"):  # PEFT as it is where it has seen no model of ours
        method = getattr(PeftModel, name)
        monkeypatch.setattr(PeftModel, name, getattr(method, "__wrapped__", method))
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    assert not hasattr(model, "peft_config") and not hasattr(PeftModel.push_to_hub, "__wrapped__")
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert model.peft_config is adapted.peft_config
    adapted.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / "README.md").exists()
    push_folder(checkpoint, CardOptions("me/base"))
    adapted.push_to_hub("me/adapter", base_model="me/base")
    assert b"base_model_relation: adapter" in hub.get_files("me/adapter")["README.md"]
    other = get_peft_model(torch.nn.Sequential(torch.nn.Linear(2, 2)), LoraConfig(r=1, target_modules=["0"]))
    other.save_pretrained(tmp_path / "other")
    assert (tmp_path / "other" / "README.md").exists()
    del model.peft_config
    assert not hasattr(model, "peft_config")


def test_an_adapter_names_its_base_on_the_hub(push, hub, adapter, checkpoint):
    code, _, err = push(adapter, "me/adapter")
    assert code == 1 and "push that model first" in err and "--base-model" in err
    code, _, err = push(adapter, "me/adapter", "--base-model", "me/base")
    assert code == 1 and "me/base" in err and "push it first" in err
    assert "--base-model" in push(adapter, "me/adapter", "--base-model", "me/base@dev")[2]
    assert push(checkpoint, "me/base")[0] == 0
    assert "is private" in push(adapter, "me/adapter", "--base-model", "me/base", "--public")[2]
    assert ("model", "me/adapter") not in hub.repositories
    assert push(adapter, "me/adapter", "--base-model", "me/base")[0] == 0
    files = hub.get_files("me/adapter")
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "me/base"
    assert {"adapter_model.safetensors", "tokenizer.json", "processing_llava_st.py"} <= files.keys()
    assert "modeling_llava_st.py" not in files and b"base_model_relation: adapter" in files["README.md"]


def test_an_adapter_keeps_the_revision_of_its_base_and_of_no_other(push, hub, adapter, checkpoint, tmp_path):
    assert push(checkpoint, "me/base")[0] == 0
    folder = shutil.copytree(adapter, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    known = hub.repositories["model", "me/base"].commits[-1][0]
    for base, revision, kept in (("me/base", known, known), ("me/other", "gone", None), ("me/base", "gone", "")):
        content = {**config, "base_model_name_or_path": base, "revision": revision}
        (folder / "adapter_config.json").write_text(json.dumps(content))
        code, _, err = push(folder, "me/adapter", "--base-model", "me/base")
        if kept == "":
            assert code == 1 and "the base me/base at gone cannot be used" in err
            continue
        assert code == 0, err
        assert json.loads(hub.get_files("me/adapter")["adapter_config.json"])["revision"] == kept


def test_a_data_set_is_shards_and_card(push, hub, published):
    assert push(published, "me/shapes")[0] == 0
    names = {f"data/train-{index:05d}-of-00002.parquet" for index in range(2)}
    files = hub.get_files("me/shapes", "dataset")
    assert files.keys() == {".gitattributes", "README.md", *names}
    assert b'load_dataset("me/shapes"' in files["README.md"]
    counts = hub.count()
    assert counts == {**WITH_ONE_LARGE_FILE, "PUT lfs-storage": 2}
    assert counts.total() == read_stated_requests("`push` of a data set of two shards")


def test_a_space_is_its_folder(push, hub, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    code, _, errors = push("hub_cards/space", "me/when-and-where", "--public")
    assert (code, errors) == (0, "")
    files = hub.get_files("me/when-and-where", "space")
    assert files.keys() == {"app.py", "README.md", "requirements.txt", ".gitattributes"}
    assert files["app.py"] == Path("hub_cards/space/app.py").read_bytes()
    assert not hub.repositories["space", "me/when-and-where"].private
    assert push("hub_cards/space", "me/when-and-where", "--license", "MIT")[2].count("leave it out") == 1


def test_a_benchmark_goes_with_its_tasks(push, hub, published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "shapes")
    (folder / "eval.yaml").write_text("name: shapes\n")
    assert push(folder, "me/shapes")[0] == 0
    assert hub.get_files("me/shapes", "dataset")["eval.yaml"] == b"name: shapes\n"
    (folder / "eval.yaml").unlink()
    assert push(folder, "me/shapes")[0] == 0
    assert "eval.yaml" not in hub.get_files("me/shapes", "dataset")


def test_dry_run_shows_files_and_card_and_asks_nothing(push, hub, checkpoint):
    code, out, _ = push(checkpoint, "me/model", "--dry-run")
    assert code == 0 and not hub.requests and not hub.repositories
    size = (checkpoint / "model.safetensors").stat().st_size
    assert f"{size:,}" in out and "pipeline_tag: video-text-to-text" in out and "[More Information" not in out


def test_no_path_of_the_machine_is_sent(hub, adapter, checkpoint, published, tmp_path):
    home = tmp_path / "home"
    folder = shutil.copytree(checkpoint, home / "model")
    for name in ("training_args.bin", "trainer_state.json", "skipped.jsonl", "run.json", "optimizer.pt"):
        (folder / name).write_text(str(folder))
    push_folder(folder, CardOptions("me/model"))
    push_folder(adapter, CardOptions("me/adapter", base_model="me/model"))
    push_folder(published, CardOptions("me/shapes"))
    for repository in hub.repositories.values():
        for name, content in repository.commits[-1][1].items():
            assert not name.endswith((".bin", ".pt", "state.json", ".jsonl"))
            for path in (folder, checkpoint, published, Path.home() / "x", Path.cwd()):
                assert str(path).encode() not in content, name
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**config, "note": str(folder)}))
    with pytest.raises(InputError, match="a path of this machine"):
        push_folder(folder, CardOptions("me/model"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (("POST /api/repos/create", 401), "the token is not valid"),
        (("POST /api/repos/create", 403), "may not write there"),
        (("preupload", 403), "may not write there"),
        (("/commit/", 409), "run the same again"),
        (("/commit/", 412), "somebody else wrote there"),
        (("preupload", 429), "asks for a pause"),
        (("GET /api/models", 404, {"code": "RepoNotFound"}), "does not exist"),
        (("/commit/", 500), "run the same again"),
        (("lfs-storage", 500), "run the same again"),
        (("lfs-storage", 400), "(status 400): status 400 on demand"),
        (("validate-yaml", 400), "Invalid metadata in README.md"),
        (("/commit/", None), "the connection failed"),
        (("POST /api/repos/create", None), "the connection failed"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_fails_is_one_line_and_a_second_run_finishes(push, hub, checkpoint, fault, words):
    pattern, status, *options = fault
    hub.fail(pattern, status, **(options[0] if options else {}))
    code, out, err = push(checkpoint, "me/model")
    assert (code, out) == (1, "")
    assert words in err and err.count("\n") == 0 and "me/model" in err
    hub.heal()
    assert push(checkpoint, "me/model")[0] == 0
    assert "model.safetensors" in hub.get_files("me/model")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)), "these bytes have another digest"),
        (Path.unlink, "No such file or directory"),
    ],
    ids=["changed", "gone"],
)
def test_a_file_that_changes_under_way_is_sent_as_it_is_the_next_time(
    push, hub, checkpoint, tmp_path, monkeypatch, change, words
):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    weights = folder / "model.safetensors"

    def answer(self, *asked):
        change(weights)
        return local_hub._Handler.batch(self, *asked)

    with monkeypatch.context() as patch:
        routes = [(*route[:2], answer) if "lfs/objects" in route[0] else route for route in local_hub._ROUTES]
        patch.setattr(local_hub, "_ROUTES", routes)
        code, _, err = push(folder, "me/model")
    assert code == 1 and words in err and "connection" not in err
    if not weights.exists():
        assert "lacks model.safetensors" in push(folder, "me/model")[2]
        shutil.copy(checkpoint / "model.safetensors", folder)
    assert push(folder, "me/model")[0] == 0
    assert hub.get_files("me/model")["model.safetensors"] == weights.read_bytes()


def test_of_pushes_at_once_one_goes_through(hub, checkpoint):
    def push(number: int) -> str:
        try:
            return push_folder(checkpoint, CardOptions("me/model"))
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(push, range(3)))
    sent = [text for text in ended if "/commit/" in text]
    assert sent and all("run the same again" in text for text in ended if text not in sent), ended
    assert push_folder(checkpoint, CardOptions("me/model")) in sent


def test_no_network_and_a_full_disk_are_one_line(push, hub, checkpoint, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
        assert "the connection failed" in push(checkpoint, "me/model")[2]
    with monkeypatch.context() as patch:

        def fail(self, folder):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

        patch.setattr(LlavaSTProcessor, "save_pretrained", fail)
        code, _, err = push(checkpoint, "me/model")
        assert code == 1 and "No space left on device" in err and "\n" not in err
    assert push(checkpoint, "me/model")[0] == 0


def test_names_of_any_script(push, hub, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "模型 ünï")
    assert push(folder, "me/model", "--message", "Größe 模型")[0] == 0
    for name in ("me/modèle", "me/model@dev", "me/model/tree/dev"):
        assert "letters a to z" in push(folder, name)[2]
    assert "SPDX" in push(folder, "me/model", "--license", "日本")[2]


def test_a_login_is_asked_for(push, hub, checkpoint, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    code, _, err = push(checkpoint, "me/model")
    assert code == 1 and "hf auth login" in err
    assert push(checkpoint, "you/model")[0] == 1
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    assert "the token is not valid" in push(checkpoint, "me/model")[2]


def test_a_name_that_is_taken_is_refused(push, hub, adapter, checkpoint, published):
    assert "may not write" in push(checkpoint, "you/model")[2]
    api = HfApi()
    api.create_repo("me/taken", private=True)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="me/taken")
    api.upload_file(path_or_fileobj=b"---\ntags: [bert]\n---\n", path_in_repo="README.md", repo_id="me/taken")
    before = hub.get_files("me/taken")
    assert "holds other content" in push(checkpoint, "me/taken")[2]
    assert push(checkpoint, "me/base")[0] == 0
    assert "holds other content" in push(adapter, "me/base", "--base-model", "me/base")[2]
    assert "is private" in push(checkpoint, "me/base", "--public")[2]
    assert push(checkpoint, "me/open", "--public")[0] == 0
    assert "is public" in push(checkpoint, "me/open")[2]
    assert push(published, "me/base")[0] == 0  # a data set is another repository than a model of that name
    assert hub.get_files("me/taken") == before


def test_a_folder_that_is_not_whole_is_refused(push, hub, checkpoint, adapter, published, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    (folder / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes()[:-10])
    assert "model.safetensors is damaged" in push(folder, "me/model")[2]
    (folder / "model.safetensors").unlink()
    assert "lacks model.safetensors" in push(folder, "me/model")[2]
    shutil.copy(checkpoint / "model.safetensors", folder)
    (folder / "processor_config.json").unlink()
    assert "has no processor" in push(folder, "me/model")[2]
    (folder / "unfinished.json").write_text("{}")
    assert "is not finished" in push(folder, "me/model")[2]
    shards = shutil.copytree(published, tmp_path / "shapes")
    next((shards / "data").iterdir()).unlink()
    assert "is not whole" in push(shards, "me/shapes")[2]
    (tmp_path / "empty").mkdir()
    assert "nothing that can be sent" in push(tmp_path / "empty", "me/x")[2]
    assert "is no folder" in push(tmp_path / "nowhere", "me/x")[2]
    assert "ORGANIZATION/NAME" in push(checkpoint, "x")[2]
    assert "llava-st convert" in push(make_published_checkpoint(tmp_path / "published"), "me/x")[2]
    assert "leave it out" in push(published, "me/x", "--license", "MIT")[2]
    assert not hub.requests


def push_with_cuts(hub, folder: Path, name: str, options: CardOptions, draw: random.Random) -> int:
    """Push with the connection cut from a random request on, again until it is through; return the attempts."""
    for attempt in range(1, 20):
        hub.heal()
        if attempt < 3:
            hub.fail("", skip=draw.randrange(9), does=draw.random() < 0.5)
        try:
            push_folder(folder, options)
            return attempt
        except InputError as error:
            assert "run the same again" in str(error)
    raise AssertionError(f"{name} never arrived")


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 20))])
def test_an_upload_that_is_cut_and_run_again_gives_the_same_repository(hub, checkpoint, published, tmp_path, seed):
    draw = random.Random(seed)
    model = LlavaSTForConditionalGeneration.from_pretrained(checkpoint)
    model.save_pretrained(tmp_path / "model", max_shard_size="800KB")
    LlavaSTProcessor.from_pretrained(checkpoint).save_pretrained(tmp_path / "model")
    for folder, kind, name in ((tmp_path / "model", "model", "me/model"), (published, "dataset", "me/shapes")):
        push_folder(folder, CardOptions(name))
        expected = hub.get_files(name, kind)
        del hub.repositories[kind, name]
        hub.objects.clear()
        attempts = push_with_cuts(hub, folder, name, CardOptions(name), draw)
        hub.heal()
        repository = hub.repositories[kind, name]
        assert hub.get_files(name, kind) == expected
        assert len(repository.commits) == 2, f"after {attempts} attempts"  # never half of it
        stored = [path for path in hub.requests if path.startswith("PUT /lfs-storage/")]
        assert {path.rsplit("/", 1)[1] for path in stored} == {
            hash_file(content) for path, content in expected.items() if path.endswith((".safetensors", ".parquet"))
        }
        hub.requests.clear()


def test_slow_answers_are_waited_for(hub, published):
    hub.fail("preupload", seconds=0.3)
    hub.fail("lfs-storage", 503, times=1)  # the client tries again by itself
    hub.fail("objects/batch", times=1)
    assert "/commit/" in push_folder(published, CardOptions("me/shapes"))
