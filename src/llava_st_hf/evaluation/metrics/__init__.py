"""The metrics of grounding, as pure functions on plain numbers.

Spans are (start, end) in seconds, boxes (left, top, right, bottom) in pixels; any other unit serves as well, as long
as truth and answer have the same, because a ratio has none. What an answer is worth is a number from 0 to 1; the
metrics of a data set are means of such numbers over all of its items, where an answer that could not be read counts
as 0.

| metric | per item | over the items |
| --- | --- | --- |
| m_tIoU | intersection over union of two spans, tIoU | mean |
| m_sIoU | mean IoU of the boxes at the frames that both tubes have, sIoU | mean |
| m_vIoU | the sum of the same IoUs, divided by the number of frames that either tube has, vIoU | mean |
| R@t, tIoU@t, sIoU@t, vIoU@t | whether the value is >= t; R@t is that of tIoU, with one answer per query | share |
| acc@t | whether the IoU of two boxes is >= t (REC: t = 0.5) | share |
| exact match | whether two texts are equal, see `normalize_text` | share |
| accuracy | whether the choice that is named is the right one | share |
| R1@t, mAP | QVHighlights: the first window with any true one; average precision of ten windows | share, mean |
| EtF1, SODA_c | dense captions: F measure of events matched one to one; of captions in the order of time | mean |
| Bleu_n, METEOR, ROUGE_L, CIDEr | words that captions share, see `caption_sets` | of sums over all items |

Those of particular data sets are imported from their modules: vIoU over every frame and second by second (`tubes`),
sets of spans and tubes (`sets`), captions (`captions`), confidence intervals and calibration (`uncertainty`).
"""

from .captions import normalize_text
from .means import compute_mean, compute_recall
from .overlap import compute_box_iou, compute_temporal_iou, compute_union_iou
from .tubes import TubeIoU, compute_tube_iou

__all__ = [
    "TubeIoU",
    "compute_box_iou",
    "compute_mean",
    "compute_recall",
    "compute_temporal_iou",
    "compute_tube_iou",
    "compute_union_iou",
    "normalize_text",
]
