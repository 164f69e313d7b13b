"""How fast fits and searches are, as ratios to scikit-learn's of the same settings.

python -m tests.benchmarks.estimators [fit] [search] [digits]

Each contestant runs in a process of its own, one after the other, with an empty compilation cache:
imports are not counted, compiling is. A ratio is our time divided by scikit-learn's, of the clock
and of the processors, those of its workers included. Beside those of MNIST stands a bound: how
long two large matrix products per step take by themselves, in float32 by NumPy's BLAS.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np


def mnist(examples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    from train import data

    found = data.load("mnist")
    x = found.x_train[:examples].reshape(-1, 784) / 255.0
    return x, found.y_train[:examples]


def work(name: str, own: bool) -> None:
    """Do a work, once."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    search, options = GridSearchCV, {"n_jobs": 2}
    if own:
        from train.estimators import MLPClassifier, SweepSearchCV

        search, options = SweepSearchCV, {}
    net, grid = MLPClassifier(batch_size=200, random_state=0), {"alpha": [1e-4, 1e-3, 1e-2, 0.1]}
    x, y = (
        load_digits(return_X_y=True)
        if name == "digits"
        else mnist(20_000 if name == "search" else None)
    )
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"  # Of the workers.
    before, started = sum(os.times()[:4]), time.perf_counter()
    if name == "fit":
        net.set_params(max_iter=20).fit(x, y)
    elif name == "search":
        search(net.set_params(max_iter=10), grid, cv=3, **options).fit(x, y)
    else:
        grid = {
            "hidden_layer_sizes": [(50,), (100,)],
            "alpha": [1e-4, 1e-2, 1.0],
            "learning_rate_init": [1e-3, 3e-3],
        }
        search(net.set_params(max_iter=40), grid, cv=5, **options).fit(x, y)
    wall = time.perf_counter() - started
    if options and name != "fit":
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)  # What workers took counts once they end.
    print(json.dumps([wall, sum(os.times()[:4]) - before]))


# Steps of each work with MNIST: epochs times batches of 200; of the search 12 fits and a last one.
STEPS = {"fit": 20 * 300, "search": 12 * 10 * 67 + 10 * 100}


def products(steps: int) -> None:
    """Compute what no training of 784-100-10 can do without: x w and x^T dy in each step."""
    draw = np.random.default_rng(0).random
    x, w, dy = (draw(shape, np.float32) for shape in [(200, 784), (784, 100), (200, 100)])
    x @ w
    before, started = sum(os.times()[:4]), time.perf_counter()
    for _ in range(steps):
        x @ w
        x.T @ dy
    print(json.dumps([time.perf_counter() - started, sum(os.times()[:4]) - before]))


def measured(name: str, by: str) -> list[float]:
    """Do a work in a process of its own; return the seconds of the clock and of processors."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.estimators", "--work", name, by]
        variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": folder}
        done = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        if sys.argv[3] == "products":
            products(STEPS[sys.argv[2]])
        else:
            work(sys.argv[2], sys.argv[3] == "jaxnets")
        return
    for name in sys.argv[1:] or ["fit", "search", "digits"]:
        own, other = measured(name, "jaxnets"), measured(name, "scikit-learn")
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        print(
            f"{name}: {ratios[0]:.3f} of the clock ({own[0]:.1f} s / {other[0]:.1f} s), "
            f"{ratios[1]:.3f} of the processors ({own[1]:.1f} s / {other[1]:.1f} s)",
            flush=True,
        )
        if name in STEPS:
            bound = measured(name, "products")
            ratios = [a / b for a, b in zip(bound, other, strict=True)]
            print(f"  its products alone: {ratios[0]:.3f} and {ratios[1]:.3f}", flush=True)


if __name__ == "__main__":
    main()
