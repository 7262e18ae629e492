"""Update rules. A new one is a function in a file here and a line in RULES.

A rule makes of a gradient the direction `u` of the chain (see `optim/chain.py`), which
gives it its sign and its rate. `update` is called with the parameters and these extra
arguments: the global `step`, the step's `rate`, a `key` of its own, `value_fn` and
`grad_fn`, the objective of this batch and its gradient as functions of parameters.
`sampled_grad_fn(params, key)` gives the gradient of the mean loss, had the model drawn
this batch's targets itself, and how many they are.
"""

import math

from core.registry import Entry, Note, Range
from optim.rules import (
    adam,
    adaptive,
    counted,
    descent,
    factored,
    lbfgs,
    mars,
    momenta,
    muon,
    parameter_free,
    polar,
    scion,
    shampoo,
    signs,
    soap,
    sophia,
    trust,
)

REFERENCE = "tests/test_optim_reference.py"
ADAPTIVE = "tests/test_optim_adaptive.py"
POLAR = "tests/test_optim_polar.py"
TENSORS = "tests/test_optim_tensors.py"
PRECONDITION = "tests/test_optim_precondition.py"

BETA = Range("[0, 1)")
POSITIVE = EPS = Range("(0, inf)")
MOMENTUM = Range("[0, 1)", neutral=0.0)
DECAY = Range("[0, inf)", neutral=0.0)  # one inside a rule; `optim.decay` is outside
SHARE = Range("[0, inf)", neutral=1.0)
# Of the Adam beside a rule for hidden matrices.
AUX = {"aux_b1": BETA, "aux_b2": BETA, "aux_eps": EPS, "aux_share": SHARE}

RULES = {
    "gradient_descent": Entry(
        descent.gradient_descent,
        "Cauchy 1847",
        note=Note(REFERENCE, "optax.identity"),
    ),
    "sgd": Entry(
        descent.sgd,
        "Polyak 1964; Nesterov 1983; Sutskever et al. 2013",
        {"momentum": MOMENTUM},
        note=Note(REFERENCE, "optax.trace"),
    ),
    "adam": Entry(
        adam.adam,
        "Kingma & Ba 2015, https://arxiv.org/abs/1412.6980",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(REFERENCE, "optax.scale_by_adam"),
    ),
    "adamw": Entry(  # what makes it that is `optim.decay`, which any rule may have
        adam.adam,
        "Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(REFERENCE, "optax.scale_by_adam"),
    ),
    "nadam": Entry(
        adam.nadam,
        "Dozat 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_adam"),
    ),
    "nadamw": Entry(  # as AdamW is to Adam
        adam.nadam,
        "Dozat 2016; Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_adam"),
    ),
    "amsgrad": Entry(
        adam.amsgrad,
        "Reddi et al. 2018, https://arxiv.org/abs/1904.09237",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_amsgrad"),
    ),
    "adamax": Entry(
        adam.adamax,
        "Kingma & Ba 2015, https://arxiv.org/abs/1412.6980",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_adamax"),
    ),
    "radam": Entry(
        adam.radam,
        "Liu et al. 2020, https://arxiv.org/abs/1908.03265",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE),
    ),
    "adagrad": Entry(
        adaptive.adagrad,
        "Duchi et al. 2011, https://jmlr.org/papers/v12/duchi11a.html",
        {"eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_rss"),
    ),
    "rmsprop": Entry(
        adaptive.rmsprop,
        "Tieleman & Hinton 2012; Graves 2013, https://arxiv.org/abs/1308.0850",
        {"b2": BETA, "eps": EPS, "momentum": MOMENTUM},
        note=Note(ADAPTIVE, "optax.scale_by_rms"),
    ),
    "adadelta": Entry(
        adaptive.adadelta,
        "Zeiler 2012, https://arxiv.org/abs/1212.5701",
        {"rho": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_adadelta"),
    ),
    "adabelief": Entry(
        adaptive.adabelief,
        "Zhuang et al. 2020, https://arxiv.org/abs/2010.07468",
        {"b1": Range("(0, 1)"), "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_belief"),
    ),
    "yogi": Entry(
        adaptive.yogi,
        "Zaheer et al. 2018, "
        "https://papers.nips.cc/paper/8186-adaptive-methods-for-nonconvex-optimization",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.scale_by_yogi"),
    ),
    "adopt": Entry(
        adaptive.adopt,
        "Taniguchi et al. 2024, https://arxiv.org/abs/2411.02853",
        {"b1": BETA, "b2": BETA, "eps": EPS},
        note=Note(ADAPTIVE, "optax.contrib.scale_by_adopt"),
    ),
    "adan": Entry(
        momenta.adan,
        "Xie et al. 2022, https://arxiv.org/abs/2208.06677",
        {"b1": BETA, "b2": BETA, "b3": BETA, "eps": EPS},
        note=Note(ADAPTIVE),
    ),
    "ademamix": Entry(
        momenta.ademamix,
        "Pagliardini et al. 2024, https://arxiv.org/abs/2409.03137",
        {"b1": BETA, "b2": BETA, "b3": BETA, "alpha": Range("[0, inf)"), "eps": EPS},
        momenta.check_warmups,
        note=Note(ADAPTIVE, "optax.contrib.scale_by_ademamix"),
    ),
    "lion": Entry(
        signs.lion,
        "Chen et al. 2023, https://arxiv.org/abs/2302.06675",
        {"b1": BETA, "b2": BETA},
        note=Note(ADAPTIVE, "optax.scale_by_lion"),
    ),
    "signum": Entry(
        signs.signum,
        "Bernstein et al. 2018, https://arxiv.org/abs/1802.04434",
        {"momentum": MOMENTUM},
        note=Note(ADAPTIVE, "optax.scale_by_sign"),
    ),
    "muon": Entry(
        muon.muon,
        "Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; "
        "Liu et al. 2025, https://arxiv.org/abs/2502.16982; "
        "Amsel et al. 2025, https://arxiv.org/abs/2505.16932",
        {"momentum": MOMENTUM, **AUX},
        polar.check,
        note=Note(POLAR),
    ),
    "normuon": Entry(
        muon.normuon,
        "Li et al. 2025, https://arxiv.org/abs/2510.05491",
        {"momentum": MOMENTUM, "b2": BETA, **AUX},
        polar.check,
        note=Note(POLAR),
    ),
    "scion": Entry(
        scion.scion,
        "Pethick et al. 2025, https://arxiv.org/abs/2502.07529",
        {"momentum": MOMENTUM, "radius": POSITIVE, "end_radius": POSITIVE},
        polar.check,
        note=Note(POLAR),
    ),
    "lamb": Entry(
        trust.lamb,
        "You et al. 2020, https://arxiv.org/abs/1904.00962",
        {"b1": BETA, "b2": BETA, "eps": EPS, "decay": DECAY},
        note=Note(TENSORS, "optax.scale_by_trust_ratio"),
    ),
    "lars": Entry(
        trust.lars,
        "You et al. 2017, https://arxiv.org/abs/1708.03888",
        {"momentum": MOMENTUM, "trust": POSITIVE, "decay": DECAY},
        note=Note(TENSORS),
    ),
    "novograd": Entry(
        trust.novograd,
        "Ginsburg et al. 2019, https://arxiv.org/abs/1905.11286",
        {"b1": BETA, "b2": BETA, "eps": EPS, "decay": DECAY},
        note=Note(TENSORS),
    ),
    "adafactor": Entry(
        factored.adafactor,
        "Shazeer & Stern 2018, https://arxiv.org/abs/1804.04235",
        {
            "decay_power": Range("(0, 1]"),
            "eps": EPS,
            "clip_rms": Range("(0, inf]", neutral=math.inf),
            "momentum": MOMENTUM,
            "min_scale": POSITIVE,
        },
        note=Note(TENSORS, "optax.scale_by_factored_rms"),
    ),
    "sm3": Entry(
        factored.sm3,
        "Anil et al. 2019, https://arxiv.org/abs/1901.11150",
        {"momentum": MOMENTUM},
        note=Note(TENSORS),
    ),
    "mars": Entry(
        mars.mars,
        "Yuan et al. 2024, https://arxiv.org/abs/2411.10438",
        {"b1": BETA, "b2": BETA, "eps": EPS, "gamma": Range("[0, inf)")},
        note=Note(TENSORS, "", "with exact=True a second gradient"),
    ),
    "prodigy": Entry(
        parameter_free.prodigy,
        "Mishchenko & Defazio 2023, https://arxiv.org/abs/2306.06101",
        {
            "b1": BETA,
            "b2": BETA,
            "eps": EPS,
            "start": POSITIVE,
            "coefficient": POSITIVE,
        },
        note=Note(TENSORS),
    ),
    "dadapt_adam": Entry(
        parameter_free.dadapt_adam,
        "Defazio & Mishchenko 2023, https://arxiv.org/abs/2301.07733",
        {"b1": BETA, "b2": BETA, "eps": EPS, "start": POSITIVE},
        note=Note(TENSORS),
    ),
    "dog": Entry(
        parameter_free.dog,
        "Ivgi et al. 2023, https://arxiv.org/abs/2302.12022",
        {"start": POSITIVE, "eps": EPS},
        note=Note(TENSORS),
    ),
    "dowg": Entry(
        parameter_free.dowg,
        "Khaled et al. 2023, https://arxiv.org/abs/2305.16284",
        {"start": POSITIVE},
        note=Note(TENSORS),
    ),
    "soap": Entry(
        soap.soap,
        "Vyas et al. 2024, https://arxiv.org/abs/2409.11321",
        {"b1": BETA, "b2": BETA, "b3": BETA, "eps": EPS},
        counted.check_every,
        note=Note(PRECONDITION, "", "QR of both sides every every_steps steps"),
    ),
    "shampoo": Entry(
        shampoo.shampoo,
        "Gupta et al. 2018, https://arxiv.org/abs/1802.09568; "
        "Anil et al. 2020, https://arxiv.org/abs/2002.09018; "
        "Shi et al. 2023, https://arxiv.org/abs/2309.06497",
        {"b1": BETA, "b2": Range("[0, 1]"), "eps": EPS, "root_eps": EPS},
        shampoo.check,
        note=Note(PRECONDITION, "", "eigenvalues of blocks every every_steps steps"),
    ),
    "sophia_h": Entry(
        sophia.sophia_h,
        "Liu et al. 2023, https://arxiv.org/abs/2305.14342",
        {"b1": BETA, "b2": BETA, "gamma": POSITIVE, "eps": EPS},
        counted.check_every,
        note=Note(
            PRECONDITION, "", "a product with the Hessian every every_steps steps"
        ),
    ),
    "sophia_g": Entry(
        sophia.sophia_g,
        "Liu et al. 2023, https://arxiv.org/abs/2305.14342",
        {"b1": BETA, "b2": BETA, "gamma": POSITIVE, "eps": EPS},
        counted.check_every,
        note=Note(PRECONDITION, "", "a second gradient every every_steps steps"),
    ),
    "lbfgs": Entry(
        lbfgs.lbfgs,
        "Liu & Nocedal 1989, https://doi.org/10.1007/BF01589116",
        {},
        lbfgs.check,
        note=Note("tests/test_optim_lbfgs.py", "optax.scale_by_lbfgs"),
    ),
}
