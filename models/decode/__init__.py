"""From a model that continues a text to whole texts. A new way is a line in DECODERS.

All here is model-agnostic, batched, and jitted by the caller: `beams` says how many
continuations of a row the cache must hold, `search(extend, opening, key_B, room=T)`
returns what is found and the cache, which a caller that gave it away gets back.
"""

from core.registry import Entry
from models.decode import beam, sample
from models.decode.greedy import Greedy
from models.decode.terms import LIMITS

DECODERS = {
    "greedy": Entry(Greedy, "", LIMITS),
    "beam": Entry(
        beam.Beam,
        "Wu et al. 2016, https://arxiv.org/abs/1609.08144, section 7",
        beam.RANGES,
        beam.check,
    ),
    "sample": Entry(
        sample.Sample,
        "Holtzman et al. 2020, https://arxiv.org/abs/1904.09751",
        sample.RANGES,
        sample.check,
    ),
}
