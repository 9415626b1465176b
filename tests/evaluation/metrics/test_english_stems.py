"""Stems of English words against those of METEOR's own program."""

import pytest

from llava_st_hf.evaluation.metrics.english_stems import stem_word

# As the program of 2015 gave them; some differ in later editions of the algorithm.
STEMS = """
    running:run runs:run ran:ran hopping:hop hoping:hope flies:fli dies:die ties:tie cried:cri tied:tie gas:gas
    gaps:gap happiness:happi happily:happili relational:relat conditional:condit digitizer:digit vietnamization:vietnam
    feudalism:feudal decisiveness:decis hopefulness:hope sensibility:sensibl apologist:apologist radically:radic
    formative:format electricity:electr goodness:good revival:reviv adjustable:adjust adoption:adopt effective:effect
    probate:probat rate:rate cease:ceas controlling:control rolling:roll playing:play says:say boy:boy syzygy:syzygi
    yes:yes youth:youth added:ad ebbing:eb egged:eg news:news skis:ski inning:inning proceed:proceed proceeded:proceed
    dying:die early:earli generate:generat communism:communism arsenal:arsenal this:this kiwis:kiwi consulted:consult
    agreed:agre feed:feed exceedingly:exceed bled:bled sing:sing luxuriated:luxuri owned:own beautifully:beauti 's:'s
    n't:n't dog's:dog 'tis:tis us:us as:as is:is
"""


@pytest.mark.parametrize("pair", STEMS.split())
def test_stem(pair):
    word, stem = pair.split(":")
    assert stem_word(word) == stem
