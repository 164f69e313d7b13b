"""What a person may have meant by a name that there is not: a flag, a value, an op, an experiment.

One function for all of them, and one table of the words that people bring from other libraries.
"""

import difflib
import re
from collections.abc import Iterable

# Words of other libraries and what they are called here, the first that exists where they are used;
# all written without dashes, underscores and capitals.
ALIASES = {
    # Flags.
    "lr": ("learning-rate",),
    "wd": ("weight-decay",),
    "decayrate": ("decay",),
    "gamma": ("decay",),
    "bs": ("batch-size",),
    "b": ("batch-size",),
    "batch": ("batch-size",),
    "minibatch": ("batch-size",),
    "epoch": ("epochs",),
    "e": ("epochs",),
    "maxepochs": ("epochs",),
    "nepochs": ("epochs",),
    "step": ("steps",),
    "iterations": ("steps",),
    "iters": ("steps",),
    "maxsteps": ("steps",),
    "opt": ("optimizer",),
    "optim": ("optimizer",),
    "lrschedule": ("schedule",),
    "lrscheduler": ("schedule",),
    "scheduler": ("schedule",),
    "sched": ("schedule",),
    "warmup": ("warmup-steps",),
    "beta": ("momentum",),
    "nesterov": ("optimizer",),
    "layers": ("hidden", "architecture"),
    "hiddensize": ("hidden",),
    "hiddensizes": ("hidden",),
    "hiddendim": ("hidden",),
    "hiddenlayers": ("hidden",),
    "units": ("hidden",),
    "width": ("hidden",),
    "widths": ("hidden",),
    "depth": ("hidden", "architecture"),
    "act": ("activation",),
    "nonlinearity": ("activation",),
    "model": ("architecture",),
    "arch": ("architecture",),
    "network": ("architecture",),
    "net": ("architecture",),
    "normalization": ("norm",),
    "normalisation": ("norm",),
    "bn": ("norm",),
    "init": ("initializer",),
    "droprate": ("dropout",),
    "dropoutrate": ("dropout",),
    "dataroot": ("data-dir",),
    "datapath": ("data-dir",),
    "root": ("data-dir",),
    "task": ("dataset",),
    "digits": ("dataset",),
    "mnist": ("dataset",),
    "cifar10": ("dataset",),
    "val": ("validation",),
    "valsplit": ("validation",),
    "validationsplit": ("validation",),
    "cv": ("folds",),
    "kfold": ("folds",),
    "augmentation": ("augment",),
    "gradclip": ("clip-norm",),
    "clip": ("clip-norm",),
    "clipgradnorm": ("clip-norm",),
    "maxgradnorm": ("clip-norm",),
    "regularization": ("l2",),
    "reg": ("l2",),
    "smoothing": ("label-smoothing",),
    "earlystopping": ("patience",),
    "dtype": ("precision",),
    "amp": ("precision",),
    "fp16": ("precision", "float16"),
    "bf16": ("precision", "bfloat16"),
    "half": ("precision", "float16"),
    "randomseed": ("seed",),
    "rng": ("seed",),
    "repeats": ("seeds",),
    "trials": ("seeds",),
    "evalfreq": ("eval-every",),
    "evalinterval": ("eval-every",),
    "logevery": ("eval-every",),
    "output": ("out",),
    "outputdir": ("out",),
    "outdir": ("out",),
    "o": ("out",),
    "logdir": ("out",),
    "savedir": ("out",),
    "rundir": ("out",),
    "checkpoint": ("resume",),
    "ckpt": ("resume",),
    "load": ("resume",),
    "restore": ("resume",),
    "continue": ("resume",),
    "tb": ("tensorboard",),
    "grid": ("search",),
    "random": ("search",),
    "dry": ("dry-run",),
    "n": ("dry-run",),
    "rank": ("process-id",),
    "worldsize": ("processes",),
    "masteraddr": ("coordinator",),
    "image": ("predict",),
    "input": ("predict",),
    "file": ("predict",),
    "source": ("from",),
    "shape": ("shapes",),
    "v": ("version",),
    "ver": ("version",),
    "usage": ("help",),
    "?": ("help",),
    "man": ("help",),
    # Commands.
    "predict": ("evaluate",),
    "test": ("evaluate",),
    "plot": ("compare",),
    "perceptron": ("mlp",),
    "cnn": ("convnet",),
    "download": ("prepare",),
    "fetch": ("prepare",),
    "gradcheck": ("check",),
    "cost": ("costs",),
    # Values.
    "swish": ("silu",),
    "lrelu": ("leaky_relu",),
    "leaky": ("leaky_relu",),
    "kaiming": ("he",),
    "henormal": ("he",),
    "xavier": ("glorot",),
    "glorotuniform": ("glorot",),
    "batchnorm": ("batch", "batch_norm"),
    "layernorm": ("layer", "layer_norm"),
    "rmsnorm": ("rms", "rms_norm"),
    "off": ("none",),
    "no": ("none",),
    "cos": ("cosine",),
    "cosineannealing": ("cosine",),
    "exp": ("exponential",),
    "onecyclelr": ("one-cycle",),
    "fixed": ("constant",),
    "cifar": ("cifar10",),
    "resnet": ("preact",),
    "fp32": ("float32",),
    "float": ("float32",),
    "double": ("float64",),
    # Ops.
    "relu6": ("relu",),
    "conv": ("conv2d",),
    "convolution": ("conv2d",),
    "maxpool": ("max_pool2d",),
    "avgpool": ("avg_pool2d",),
    "averagepool": ("avg_pool2d",),
    "dense": ("linear",),
    "fc": ("linear",),
    "matmul": ("linear",),
    "nll": ("cross_entropy",),
}

# Words for what is no flag here, and how it is done instead.
ELSEWHERE = {
    **dict.fromkeys(
        ("device", "gpu", "cuda", "cpu", "tpu", "gpus", "nocuda", "platform", "accelerator"),
        "the accelerator that JAX finds is used; JAX_PLATFORMS=cpu in the environment keeps to "
        "the CPU",
    ),
    **dict.fromkeys(
        ("model", "arch", "network", "net"),
        "the command names the network: python -m train.mlp or python -m train.convnet",
    ),
    **dict.fromkeys(
        ("workers", "numworkers", "threads"), "the data are in memory, and need no workers"
    ),
    **dict.fromkeys(
        ("verbose", "quiet", "q", "debug"), "there is one way to print; 2> FILE keeps the progress"
    ),
    **dict.fromkeys(("hidden", "norm", "dropout"), "python -m train.mlp has it"),
    "architecture": "python -m train.convnet has it",
    "sweep": "give a flag several values, as in python -m train.mlp --learning-rate 0.001 0.01",
}


def near(word: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return what to append to a refusal: "; did you mean NAME?", advice, or nothing.

    Args:
        word: what was written.
        names: what there is; flags begin with dashes.
        cutoff: how much alike two words must be, from 0 to 1.
    """
    written, known = _plain(word), {_plain(name): name for name in names}
    for meant in (written, *map(_plain, ALIASES.get(written, ()))):
        if meant in known:
            return f"; did you mean {known[meant]}?"
    if word.startswith("-") and written in ELSEWHERE:
        return f"; {ELSEWHERE[written]}"
    begun = [
        name for plain, name in known.items() if len(written) > 1 and plain.startswith(written)
    ]
    if len(begun) == 1:
        return f"; did you mean {begun[0]}?"
    if begun:
        return f"; did you mean {', '.join(begun[:-1])} or {begun[-1]}?"
    alike = difflib.get_close_matches(written, known, n=1, cutoff=cutoff)
    return f"; did you mean {known[alike[0]]}?" if alike else ""


def separated(words: Iterable[str]) -> list[str]:
    """Return the words that are meant, where commas join some or brackets stand around them."""
    return [part for part in re.split(r"[,;\s\[\](){}]+", " ".join(words)) if part]


def _plain(name: str) -> str:
    """Return a name without what people write in several ways."""
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")
