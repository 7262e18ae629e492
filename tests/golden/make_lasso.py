"""Makes lasso.npz: what scikit-learn's Lasso and ElasticNet find, in float64.

    pip install scikit-learn==1.9.1 && python tests/golden/make_lasso.py

Three targets share one design: lasso minimizes
|y - X w|^2 / (2 n) + alpha |w|_1, and the elastic net has alpha ratio |w|_1 +
alpha (1 - ratio) |w|^2 / 2 in its place.
"""

import pathlib

import numpy as np

ALPHA, RATIO = 0.3, 0.6
ROWS, INPUTS, OUTPUTS = 60, 12, 3


def main():
    """Writes the file beside this one."""
    from sklearn.linear_model import ElasticNet, Lasso

    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, INPUTS)).astype(np.float32)
    weights = (
        random.normal(size=(INPUTS, OUTPUTS)) * (random.random(INPUTS) < 0.5)[:, None]
    )
    y = (x @ weights + 0.3 * random.normal(size=(ROWS, OUTPUTS))).astype(np.float32)
    options = dict(alpha=ALPHA, fit_intercept=False, tol=1e-12, max_iter=100_000)
    fits = {"lasso": Lasso(**options), "net": ElasticNet(**options, l1_ratio=RATIO)}
    found = {
        name: fit.fit(x.astype(np.float64), y.astype(np.float64)).coef_.T
        for name, fit in fits.items()
    }
    path = pathlib.Path(__file__).with_name("lasso.npz")
    np.savez_compressed(path, x=x, y=y, **found)


if __name__ == "__main__":
    main()
