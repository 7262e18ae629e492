"""experiments/options: what stands after the colon of a config."""

import pytest

from experiments import options


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "tny",
            r"^No option 'tny'. This config has \['n', .*\]. Did you mean 'tiny'\?$",
        ),
        ("tiny,", "^No option ''"),
        ("tiny=maybe", "^Option tiny='maybe' must be true or false"),
        ("n=6x", "^Option n='6x' must be an integer"),
        ("n=٣", "must be an integer"),
        ("n", "^Option n needs a value, such as n=1"),
        ("share=nan", "^Option share='nan' must be a float"),
        ("rule=lionn", "not one of .*Did you mean 'lion'"),
        ("rule", "^Option rule needs a value, such as rule=adam"),
    ],
)
def test_a_wrong_option_is_one_line(text, line):
    with pytest.raises(ValueError, match=line):
        options.parse(text, tiny=False, n=1, share=0.5, word="", rule=("adam", "lion"))


def test_options_have_the_types_of_their_defaults():
    got = options.parse(
        "n=2,share=1,on=false,word=a=b", n=1, share=0.5, on=True, word=""
    )
    assert repr(got) == "{'n': 2, 'share': 1.0, 'on': False, 'word': 'a=b'}"
