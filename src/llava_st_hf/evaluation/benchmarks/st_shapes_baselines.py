"""The blind baseline of ST-Shapes as it is drawn by default, which would take longer to fit than many a run to ask.

They are what `fit_blind_baseline` finds, as a slow test checks:

    pytest -m slow tests/evaluation/benchmarks/test_st_shapes.py -k baselines
"""

from collections.abc import Mapping

from ..blind_baseline import BlindBaseline

_SPAN = (0.15789473684210525, 0.7368421052631579)
FITTED_BASELINES: Mapping[str, BlindBaseline] = {
    "stvg": BlindBaseline(
        span=_SPAN, box=(0.25018761176243953, 0.2855498959169404, 0.7020667543621744, 0.7374290385166753)
    ),
    "tvg": BlindBaseline(span=_SPAN),
    "svg": BlindBaseline(box=(0.2411070903961037, 0.29084399817265544, 0.7110701724368454, 0.7608070802133972)),
    "rec": BlindBaseline(box=(0.2059436191002473, 0.1480600027802669, 0.6561478083900997, 0.5982641920701194)),
    "elc": BlindBaseline(duration=0.21052631578947367, text="the cyan star moves down."),
    "tr": BlindBaseline(text="the purple star moves up left."),
    "rc": BlindBaseline(text="a red ring."),
}
