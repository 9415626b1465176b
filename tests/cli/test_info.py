"""`llava-st info` and `llava-st demo`."""

import json

import av

from llava_st_cli import main
from llava_st_hf.demo import DEMO_QUERY


def test_info_as_text_and_json(checkpoint, parity_dir, tmp_path, capsys):
    assert main(["info"]) == 0
    assert "transformers: " in capsys.readouterr().out
    assert main(["info", "--json", "--model", str(checkpoint)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["coordinate tokens"] == "100 time, 100 height and width each"
    assert facts["patches of a frame"] == 81
    for folder in sorted(path.parent for path in parity_dir.glob("*/*/model.safetensors")):
        assert main(["info", "--json", "--model", str(folder)]) == 0
        assert json.loads(capsys.readouterr().out)["fast stream spliced"] is False
    for name in ("./no_such_folder", "no_such_folder/"):
        assert main(["info", "--model", name]) == 1
        assert capsys.readouterr().err == f"llava-st: error: --model is {name}: no such folder.\n"
    assert main(["info", "--model", ""]) == 1
    assert capsys.readouterr().err.startswith("llava-st: error: --model is empty: give a directory")
    assert main(["info", "--model", str(tmp_path)]) == 1
    assert f"{tmp_path} holds neither config.json nor adapter_config.json: give" in capsys.readouterr().err
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert main(["info", "--model", str(tmp_path)]) == 1
    assert "'bert'" in capsys.readouterr().err


def test_demo_prints_both_paths(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--output-dir", "out"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-2:] == ["out/answer.json", "out/annotated.mp4"]
    assert "moving coloured shapes" in captured.err
    answer = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert answer["media"]["width"] == answer["media"]["height"] == 288
    assert answer["query"] == DEMO_QUERY
    assert not answer["problems"]
    with av.open(str(tmp_path / "out" / "annotated.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_page_says_what_it_is_at(monkeypatch, capsys):
    """Gradio and the model take many seconds, in which nothing else would be seen."""
    seen = []

    def note(result=None):
        captured = capsys.readouterr()
        seen.append(captured.out + captured.err)
        return result

    def launch(pipeline, examples, notice, frames, limits, host, port, on_ready):
        note()
        assert (pipeline, frames, host, port) == ("a pipeline", 20, "127.0.0.1", 7000)
        on_ready("http://127.0.0.1:7000/")

    monkeypatch.setattr("llava_st_hf.page.require_gradio", note)
    monkeypatch.setattr("llava_st_hf.page.launch_page", launch)
    monkeypatch.setattr("llava_st_cli.options.ModelChoice.load", lambda self: note("a pipeline"))
    assert main(["demo", "--page", "--port", "7000"]) == 0
    note()
    assert [len(text.splitlines()) for text in seen] == [2, 1, 1, 2]
    for text, words in zip(seen, ("knows moving coloured shapes only", "2 of 3", "3 of 3", "Ctrl-C"), strict=True):
        assert words in text
    assert "200 MB and 600 s of a clip, with 8 questions" in seen[-1]
