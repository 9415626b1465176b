"""VidSTG and HC-STVG as the community scores them, on real annotations and by hand."""

import json

import pytest
from truth_files import shift, take_every, write_hc_stvg, write_vidstg

from llava_st_hf.evaluation.protocols import CommunityProtocol, get_protocol
from llava_st_hf.evaluation.truths import read_truths
from llava_st_hf.processing.grounding_results_llava_st import GroundingResult
from llava_st_hf.processing.media_llava_st import InputError
from llava_st_hf.processing.notation_llava_st import CoordinateVocabulary

VOCABULARY = CoordinateVocabulary()


def score(protocol: CommunityProtocol, answer: GroundingResult, truth: GroundingResult) -> dict[str, float]:
    return protocol.score("stvg", answer, truth, VOCABULARY)


@pytest.fixture(scope="module")
def vidstg(real_annotations_dir, tmp_path_factory):
    """Real entries, among them some whose event passes the end of the segment, with still boxes of our own."""
    entries = json.loads((real_annotations_dir / "vidstg_val_excerpt.json").read_text())
    passing = [each for each in entries if each["temporal_gt"]["end_fid"] > each["used_segment"]["end_fid"]]
    chosen = entries[:8] + passing[:4]
    assert len(passing) >= 4
    path = write_vidstg(tmp_path_factory.mktemp("vidstg") / "annotations.json", chosen, moves=False)
    found = read_truths(path, "vidstg")
    truths, unusable = found.items, found.unusable
    assert not unusable
    return [(chosen[int(name.split()[1])], truth.result) for name, truth in truths.items()]


def test_perfect_and_shifted_answers_to_real_annotations(vidstg):
    protocol = get_protocol("community").for_benchmark("vidstg")
    worths = set()
    for entry, truth in vidstg:
        begin, end, last = *entry["temporal_gt"].values(), entry["used_segment"]["end_fid"]
        # The answer ends one past its last frame, the truth there or at the end of the segment.
        true_end = min(end, last)
        expected = (true_end - begin) / (end - begin)
        assert score(protocol, truth, truth) == pytest.approx({"tiou": expected, "viou": expected}, abs=1e-12)
        worths.add(expected)
        assert score(protocol, take_every(truth, 9), truth)["viou"] == pytest.approx(expected, abs=1e-12)
        if end + 1 <= last:
            later = shift(truth, 1, entry["fps"])
            expected = (end - begin - 1) / (end - begin + 1)
            assert score(protocol, later, truth) == pytest.approx({"tiou": expected, "viou": expected}, abs=1e-12)
    assert len(worths) > 1  # of both kinds


def test_hc_stvg_loses_its_last_frame(tmp_path):
    truths = read_truths(write_hc_stvg(tmp_path / "hc.json")).items
    (truth,) = (item.result for item in truths.values())
    assert (truth.spans[0].start_seconds, truth.spans[0].end_seconds) == (5.0, 6.95)
    protocol = get_protocol("community").for_benchmark("hc_stvg")
    assert score(protocol, truth, truth) == pytest.approx({"tiou": 39 / 40, "viou": 39 / 40})
    assert score(CommunityProtocol("past"), truth, truth) == pytest.approx({"tiou": 1, "viou": 1})
    # One frame later: 38 of 41 frames; the boxes, 50 wide, are one pixel off.
    found = score(protocol, shift(truth, 1, 20), truth)
    assert found == pytest.approx({"tiou": 38 / 41, "viou": 38 * (49 / 51) / 41})
    # Boxes at every third frame and the last move evenly between.
    assert score(protocol, take_every(truth, 3), truth)["viou"] == pytest.approx(39 / 40)


def test_what_is_missing_is_worth_0(tmp_path):
    truths = read_truths(write_hc_stvg(tmp_path / "hc.json")).items
    (truth,) = (item.result for item in truths.values())
    protocol = get_protocol("community")
    assert score(protocol, GroundingResult(""), truth) == {"tiou": 0, "viou": 0}
    assert score(protocol, GroundingResult("", spans=truth.spans), truth) == {"tiou": 39 / 40, "viou": 0}
    with pytest.raises(InputError, match="no span or no tube"):
        score(protocol, truth, GroundingResult("", spans=truth.spans))


def test_a_value_at_the_threshold_does_not_count():
    metrics = get_protocol("community").compute_metrics(
        "stvg", [{"tiou": 0.5, "viou": 0.5}, {"tiou": 1.0, "viou": 0.4}]
    )
    assert metrics == {"m_tIoU": 0.75, "m_vIoU": 0.45, "vIoU@0.3": 1.0, "vIoU@0.5": 0.0}
