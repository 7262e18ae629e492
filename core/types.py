"""Names for what annotations cannot say."""

from typing import Any

from jaxtyping import Array

# A nested mapping of plain data; no checker can know its keys. `registry.check` does.
Config = Any

# A float of a config: an input of the compiled program, so often a tracer.
Number = float | Array
