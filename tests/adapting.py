"""Update rules as their papers have them, in float64, of one tensor.

`s` is its state, whose entries begin at zero; `t` counts the gradients from 1.
"""

import numpy as np


def mean(s, key, beta, x):
    s[key] = beta * s[key] + (1 - beta) * x
    return s[key]


def nadam(s, t, g, b1, b2, eps):
    m, v = mean(s, "m", b1, g), mean(s, "v", b2, g**2)
    ahead = b1 * m / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
    return ahead / (np.sqrt(v / (1 - b2**t)) + eps)


def radam(s, t, g, b1, b2, eps):
    m, v = mean(s, "m", b1, g) / (1 - b1**t), mean(s, "v", b2, g**2)
    most = 2 / (1 - b2) - 1
    n = most - 2 * t * b2**t / (1 - b2**t)
    if n <= 5:
        return m
    r = np.sqrt((n - 4) * (n - 2) * most / ((most - 4) * (most - 2) * n))
    return r * m / (np.sqrt(v / (1 - b2**t)) + eps)


def amsgrad(s, t, g, b1, b2, eps, corrected=True):
    m, v = mean(s, "m", b1, g), mean(s, "v", b2, g**2)
    if corrected:
        m, v = m / (1 - b1**t), v / (1 - b2**t)
    s["top"] = np.maximum(s["top"], v)
    return m / (np.sqrt(s["top"]) + eps)


def adabelief(s, t, g, b1, b2, eps):
    m = mean(s, "m", b1, g)
    s["v"] = b2 * s["v"] + (1 - b2) * (g - m) ** 2 + eps
    return m / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def yogi(s, t, g, b1, b2, eps):
    m, v = mean(s, "m", b1, g), s.get("v", 1e-6)
    s["v"] = v - (1 - b2) * np.sign(v - g**2) * g**2
    return m / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps)


def adopt(s, t, g, b1, b2, eps, clipped=True):
    if t == 1:
        s["v"] = g**2
        return np.zeros_like(g)
    bound = (t - 1) ** 0.25 if clipped else np.inf
    mean(s, "m", b1, np.clip(g / np.maximum(np.sqrt(s["v"]), eps), -bound, bound))
    mean(s, "v", b2, g**2)
    return s["m"]


def adan(s, t, g, b1, b2, b3, eps):
    # In the letters of the paper, whose betas are one less ours.
    b1, b2, b3 = 1 - b1, 1 - b2, 1 - b3
    change = g - s["last"] if t > 1 else np.zeros_like(g)
    s["last"] = g
    s["m"] = (1 - b1) * s["m"] + b1 * g
    s["v"] = (1 - b2) * s["v"] + b2 * change
    s["n"] = (1 - b3) * s["n"] + b3 * (g + (1 - b2) * change) ** 2
    m, v, n = (
        s[key] / (1 - (1 - beta) ** t)
        for key, beta in (("m", b1), ("v", b2), ("n", b3))
    )
    return (m + (1 - b2) * v) / (np.sqrt(n) + eps)


def ademamix(s, t, g, b1, b2, b3, alpha, eps, alpha_steps=0, b3_steps=0):
    if alpha_steps:
        alpha = min(t * alpha / alpha_steps, alpha)
    if b3_steps and t < b3_steps:
        x, slow, fast = t / b3_steps, np.log(b3), np.log(b1)
        b3 = np.exp(fast * slow / ((1 - x) * slow + x * fast))
    m, v = mean(s, "m", b1, g) / (1 - b1**t), mean(s, "v", b2, g**2) / (1 - b2**t)
    return (m + alpha * mean(s, "slow", b3, g)) / (np.sqrt(v) + eps)


def lion(s, t, g, b1, b2):
    u = np.sign(b1 * s["m"] + (1 - b1) * g)
    mean(s, "m", b2, g)
    return u


def signum(s, t, g, momentum):
    return np.sign(mean(s, "m", momentum, g))


FORMULAS = (nadam, radam, amsgrad, adabelief, yogi, adopt, adan, ademamix, lion, signum)
FORMULAS = {formula.__name__: formula for formula in FORMULAS}
