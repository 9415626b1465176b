import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from llava_st_hf.data.shapes import SHAPES_TASKS, ShapesDataset, shapes_vocabulary
from llava_st_hf.data.shapes.scenes import COLORS, EVENTS, SHAPES
from llava_st_hf.processing.answer_parsing_llava_st import parse_answer
from llava_st_hf.processing.media_llava_st import MediaInfo
from llava_st_hf.processing.notation_llava_st import NOTATION
from llava_st_hf.processing.tasks_llava_st import TASKS

NUM_FRAMES = 20
NUM_SAMPLES = 200
# One pixel and 19 seconds: times are frame numbers, boxes are fractions.
CLIP = MediaInfo("video", 1, 1, tuple(range(NUM_FRAMES)), tuple(map(float, range(NUM_FRAMES))))
IMAGE = MediaInfo("image", 1, 1)
GERUNDS = {event.gerund: name for name, event in EVENTS.items()}
INFINITIVES = {event.infinitive: name for name, event in EVENTS.items()}
NAME = rf"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})"


@pytest.fixture(scope="module")
def asked():
    """For each task and difficulty the scenes and their messages, made once."""
    made = {}

    def make(task, difficulty="standard", num_samples=NUM_SAMPLES):
        if (task, difficulty, num_samples) not in made:
            dataset = ShapesDataset([task], 10_000, seed=1, difficulty=difficulty, num_frames=NUM_FRAMES)
            composed = [dataset._compose(index) for index in range(num_samples)]
            made[task, difficulty, num_samples] = [(scene, messages) for _, scene, messages, _ in composed]
        return made[task, difficulty, num_samples]

    return make


def read(task, messages, turn=0):
    """The question without coordinates, the answer as a result, the numbers of the question."""
    question, answer = (messages[2 * turn + k]["content"] for k in (0, 1))
    numbers = [coordinate.value for coordinate in NOTATION.find_coordinates(question)]
    start = numbers[0] * (NUM_FRAMES - 1) if task == "elc" else None
    media = CLIP if TASKS[task].media_type == "video" else IMAGE
    form = TASKS[task].answer_format
    return question, parse_answer(answer, media, answer_format=form, start_seconds=start), numbers


def find_object(scene, name):
    """The only object with a name."""
    (item,) = [item for item in scene.objects if item.name == name]
    return item


def find_frames(item, words):
    """The frames of "moves left, then stops", looked for in the timeline from scratch."""
    wanted = words.split(", then ")
    names = [segment.name for segment in item.segments]
    (first,) = [k for k in range(len(names)) if names[k : k + len(wanted)] == wanted]
    return item.segments[first].first_frame, item.segments[first + len(wanted) - 1].last_frame


def read_frames(span):
    frames = span.start_seconds, span.end_seconds
    assert np.allclose(frames, np.round(frames), atol=1e-4)
    return tuple(round(frame) for frame in frames)


def check_tube(tube, item, first, last):
    assert [round(entry.seconds, 4) for entry in tube.boxes] == list(range(first, last + 1))
    boxes = np.array([entry.box.xyxy for entry in tube.boxes])
    np.testing.assert_allclose(boxes, item.boxes[first : last + 1] / 72, atol=1e-6)
    assert item.visible[first : last + 1].all()


def check_box(box, item):
    np.testing.assert_allclose(box.xyxy, item.boxes[0] / 72, atol=1e-6)


def changes_within(item, first, last):
    """Whether an object looks other at one frame of a stretch than at another, or appears or vanishes."""
    state = np.column_stack([item.centers, item.half_sides, item.bright, item.visible])[first : last + 1]
    shown = state[state[:, -1] > 0]
    return len(np.unique(state[:, -1])) > 1 or (len(shown) > 0 and bool((np.ptp(shown, axis=0) > 1e-9).any()))


@pytest.mark.parametrize("difficulty", ["easy", "standard"])
@pytest.mark.parametrize("task", SHAPES_TASKS)
def test_every_answer_reads_without_a_problem(asked, task, difficulty):
    questions = set()
    for _, messages in asked(task, difficulty):
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        question, result, _ = read(task, messages)
        assert result.problems == ()
        words = NOTATION.remove_coordinates(messages[1]["content"])
        assert words == words.lower() or task == "elc"
        questions.add(re.sub(r"<[txy]=[^>]*>|'.*'", "", question))
    # Published wordings in turn, where there are some.
    assert len(questions) >= len(TASKS[task].prompts)


def test_a_query_has_one_time(asked):
    for scene, messages in asked("tvg"):
        question, result, _ = read("tvg", messages)
        name, words = re.search(rf"'the ({NAME}) (.*)'", question).groups()
        assert read_frames(result.spans[0]) == find_frames(find_object(scene, name), words)


def test_spans_begin_and_end_all_over_the_clip(asked):
    for difficulty in ("easy", "standard"):
        spans = np.array([read_frames(read("tvg", m)[1].spans[0]) for _, m in asked("tvg", difficulty)])
        assert (spans[:, 1] - spans[:, 0] >= 0.15 * (NUM_FRAMES - 1)).all()
        assert np.percentile(spans[:, 0], 20) <= 3 and np.percentile(spans[:, 0], 80) >= 10
        assert np.percentile(spans[:, 1], 20) <= 9 and np.percentile(spans[:, 1], 80) >= 14
        assert (spans[:, 0] == 0).mean() < 0.25 and (spans[:, 1] == NUM_FRAMES - 1).mean() < 0.25


def test_a_span_has_one_description(asked):
    for difficulty in ("easy", "standard"):
        for scene, messages in asked("tr", difficulty):
            _, result, numbers = read("tr", messages)
            first, last = (round(number * (NUM_FRAMES - 1)) for number in numbers)
            name, words = re.fullmatch(rf"the ({NAME}) (.*)\.", result.text).groups()
            item = find_object(scene, name)
            assert find_frames(item, words) == (first, last)
            assert not any(changes_within(other, first, last) for other in scene.objects if other is not item)


def test_dense_captions_name_every_event_in_order(asked):
    for scene, messages in asked("dvc"):
        _, result, _ = read("dvc", messages)
        told = [
            (read_frames(caption.span), *re.fullmatch(rf"the ({NAME}) (.*)\.", caption.text).groups())
            for caption in result.captions
        ]
        true = [
            ((segment.first_frame, segment.last_frame), item.name, segment.name)
            for item in scene.objects
            for segment in item.segments
            if segment.name in EVENTS or segment.name == "appears"
        ]
        assert told == sorted(true)
        assert len({span[0] for span, _, _ in told}) == len(told)


def test_grounded_talk_names_the_times(asked):
    kinds = Counter()
    for scene, messages in asked("tgc"):
        question, result, _ = read("tgc", messages)
        told = [(read_frames(c.span), c.text) for c in result.captions]
        if match := re.fullmatch(rf"When does the ({NAME}) (.*)\?", question):
            name, words = match[1], INFINITIVES[match[2]]
            assert told == [(find_frames(find_object(scene, name), words), f"the {name} {words}.")]
        else:
            name = re.fullmatch(rf"What does the ({NAME}) do, and when\?", question)[1]
            item = find_object(scene, name)
            assert told == [
                ((s.first_frame, s.last_frame), f"the {name} {s.name}.")
                for s in item.segments
                if s.is_event or s.name == "appears"
            ]
        kinds[bool(match)] += 1
    assert min(kinds.values()) > 30


def test_times_and_places_of_a_query(asked):
    questions = 0
    for scene, messages in asked("stvg"):
        question, result, _ = read("stvg", messages)
        if match := re.match(rf"When and where does the ({NAME}) (.*)\?Please", question):
            name, words = match[1], INFINITIVES[match[2]]
            questions += 1
        else:
            name, words = re.search(rf"can we see the ({NAME}) (.*) occurring\?", question).groups()
        item = find_object(scene, name)
        first, last = find_frames(item, words)
        assert read_frames(result.spans[0]) == (first, last)
        check_tube(result.tubes[0], item, first, last)
    assert 0.15 < questions / NUM_SAMPLES < 0.35


def test_a_box_and_a_start_have_one_event(asked):
    for scene, messages in asked("elc"):
        _, result, (start, *box) = read("elc", messages)
        first = round(start * (NUM_FRAMES - 1))
        boxes = {i.name: i.boxes[first] / 72 for i in scene.objects if i.visible[first]}
        matches = [name for name, other in boxes.items() if np.allclose(other, box, atol=1e-5)]
        assert len(matches) == 1
        for name, other in boxes.items():
            shared = (np.minimum(other[2:], box[2:]) - np.maximum(other[:2], box[:2])).clip(0).prod()
            together = np.subtract(box[2:], box[:2]).prod() + (other[2:] - other[:2]).prod() - shared
            assert name in matches or shared <= 0.4 * together
        item = find_object(scene, matches[0])
        (segment,) = [segment for segment in item.events if segment.first_frame == first]
        assert result.captions[0].text == f"the {item.name} {segment.name}."
        assert read_frames(result.spans[0]) == (first, segment.last_frame)
        check_tube(result.tubes[0], item, first, segment.last_frame)


def test_places_between_two_times(asked):
    for scene, messages in asked("svg"):
        question, result, numbers = read("svg", messages)
        item = find_object(scene, re.search(rf"where is the ({NAME})\?", question)[1])
        check_tube(result.tubes[0], item, *(round(number * (NUM_FRAMES - 1)) for number in numbers))


def test_captions_of_a_whole_clip(asked):
    for scene, messages in asked("video_captioning"):
        sentences = re.findall(rf"the ({NAME}) ([^.]*)\. ?", messages[1]["content"])
        assert [name for name, _ in sentences] == [item.name for item in scene.actors]
        for name, words in sentences:
            item, told = find_object(scene, name), words.split(", then ")
            assert [word for word in told if word in EVENTS] == [segment.name for segment in item.events]
            assert ("appears" in told) == (not item.visible[0]) and ("vanishes" in told) == (not item.visible[-1])
            assert ("stops" in told) == (item.segments[-1].name == "stops")
        firsts = [min(s.first_frame for s in i.segments if s.is_event or s.name == "appears") for i in scene.actors]
        assert all(later - earlier >= 2 for earlier, later in pairwise(firsts))


def test_a_classified_clip_has_one_action(asked):
    answers = Counter()
    for scene, messages in asked("classification"):
        ((event,),) = [item.events for item in scene.objects if item.events]
        assert GERUNDS[messages[1]["content"].removesuffix(".")] == event.name
        answers[event.name] += 1
    assert set(answers) == set(EVENTS)


def test_questions_about_clips_have_true_answers(asked):
    kinds, ends = Counter(), Counter()
    for scene, messages in asked("video_qa", num_samples=400):
        question, answer = messages[0]["content"], messages[1]["content"]
        if match := re.fullmatch(rf"What does the ({NAME}) do\?", question):
            item = find_object(scene, match[1])
            assert answer == f"it {item.events[0].name}." and len(item.events) == 1 and item.visible.all()
        elif match := re.fullmatch(r"Which shape (.*)\?", question):
            doers = [item for item in scene.objects if match[1] in [segment.name for segment in item.events]]
            assert [f"the {item.name}." for item in doers] == [answer]
            words = set(match[1].split()) - {"moves"}
            for item in scene.objects:  # nobody else moves left while it moves up
                others = {word for segment in item.events for word in segment.name.split()}
                assert item in doers or not words & others
        elif match := re.fullmatch(rf"Is the ({NAME}) there at the end\?", question):
            assert answer == ("yes." if find_object(scene, match[1]).visible[-1] else "no.")
            ends[answer] += 1
        else:
            first, second = re.fullmatch(r"What happens first: (.*) or (.*)\?", question).groups()
            assert answer in (f"{first}.", f"{second}.")
            starts = {}
            for sentence in (first, second):
                name, words = re.fullmatch(rf"the ({NAME}) (.*)", sentence).groups()
                starts[f"{sentence}."] = find_frames(find_object(scene, name), words)[0]
            assert min(starts, key=starts.get) == answer and abs(np.subtract(*starts.values())) >= 3
        kinds[question.split()[0] + question.split()[1]] += 1
    # However many scenes allow a question, it comes up as often as the others.
    assert len(kinds) == 4 and min(kinds.values()) > 0.18 * 400 and max(kinds.values()) < 0.32 * 400
    assert min(ends.values()) > 0.4 * ends.total()


def test_images_are_described_with_true_boxes(asked):
    for task, article in (("dgc", "a"), ("igc", "the"), ("rec", None)):
        for scene, messages in asked(task):
            question, result, _ = read(task, messages)
            if task == "dgc":
                wanted = [item.name for item in scene.objects]
            elif match := re.search(rf"the (({'|'.join(COLORS)}) shapes|({'|'.join(SHAPES.values())}))\?", question):
                wanted = [i.name for i in scene.objects if match[2] == i.color or match[3] == SHAPES[i.shape]]
                assert len(wanted) > 1
            else:
                color, shape = re.search(
                    rf"the ({'|'.join(COLORS)})? ?({'|'.join(SHAPES)}|shape)\b", question
                ).groups()
                wanted = [i.name for i in scene.objects if color in (None, i.color) and shape in ("shape", i.shape)]
                assert len(wanted) == 1
            for name, box in zip(sorted(wanted, key=lambda n: scene_middle(scene, n)), result.boxes, strict=True):
                check_box(box, find_object(scene, name))
            if article:
                told = [caption.text for caption in result.captions]
                assert sorted(told) == sorted(f"{article} {name}" for name in wanted)
                middles = [(box.x1 + box.x2) / 2 for box in result.boxes]
                assert all(right - left >= 0.08 - 1e-6 for left, right in pairwise(middles))


def scene_middle(scene, name):
    return find_object(scene, name).boxes[0, [0, 2]].mean()


def test_a_region_has_one_object(asked):
    for scene, messages in asked("rc"):
        _, result, box = read("rc", messages)
        item = find_object(scene, re.fullmatch(rf"a ({NAME})\.", result.text)[1])
        np.testing.assert_allclose(box, item.boxes[0] / 72, atol=1e-6)
        for other in scene.objects:
            near = np.allclose(other.boxes[0], item.boxes[0], atol=0.2 * 2 * item.half_sides[0])
            assert other is item or not near


def test_talk_is_true(asked):
    kinds, answers, clips = Counter(), Counter(), 0
    for scene, messages in asked("conversation", num_samples=400):
        clips += scene.num_frames > 1
        for k in range(0, len(messages), 2):
            question, answer = messages[k]["content"], messages[k + 1]["content"]
            kinds[question.split()[0] + question.split()[1]] += 1
            if match := re.fullmatch(r"What color is the (\w+)\?", question):
                assert [f"{item.color}." for item in scene.objects if item.shape == match[1]] == [answer]
            elif match := re.fullmatch(r"What shape is (\w+)\?", question):
                assert [f"a {item.shape}." for item in scene.objects if item.color == match[1]] == [answer]
            elif match := re.fullmatch(rf"Is there a ({NAME})\?", question):
                assert answer == ("yes." if match[1] in [item.name for item in scene.objects] else "no.")
                answers[answer] += 1
            elif question == "How many shapes are there?":
                assert answer == ["one.", "two.", "three.", "four."][len(scene.objects) - 1]
            elif match := re.fullmatch(rf"Which is larger, the ({NAME}) or the ({NAME})\?", question):
                sides = {f"the {name}.": find_object(scene, name).half_sides[0] for name in match.groups()}
                assert max(sides, key=sides.get) == answer and max(sides.values()) > 1.2 * min(sides.values())
            else:
                first, second = re.fullmatch(rf"Is the ({NAME}) left or right of the ({NAME})\?", question).groups()
                assert answer == ("left." if scene_middle(scene, first) < scene_middle(scene, second) else "right.")
    assert len(kinds) >= 6 and 0.4 < clips / 400 < 0.6
    assert 0.4 < answers["yes."] / answers.total() < 0.6
    assert 0.3 < np.mean([len(messages) == 4 for _, messages in asked("conversation")]) < 0.5


def test_the_vocabulary_is_that_of_the_texts(asked):
    used = set()
    for task in SHAPES_TASKS:
        for difficulty in ("easy", "standard"):
            for _, messages in asked(task, difficulty):
                for message in messages:
                    used |= set(re.findall("[A-Za-z]+", re.sub(r"<[txy]=[^>]*>", "", message["content"])))
    vocabulary = shapes_vocabulary()
    assert list(vocabulary) == sorted(set(vocabulary))
    assert used == set(vocabulary)
