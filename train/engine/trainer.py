"""The loop on the host around a program: compiles it, feeds it, reads its metrics.

Long: one class, the state of a training and all that changes it.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from train.engine import segments
from train.engine.compiled import kept, quick
from train.engine.hyperparameters import Hyper, stack
from train.engine.input_pipeline import Data, Sets, batches
from train.engine.memory import Compiling, Fitting
from train.engine.placement import on_host, placed
from train.engine.program import Program, State
from train.engine.sharding import Spread
from train.flags.config import Training
from train.metrics import GRADIENT_NORMS, SETS, Record, known, names_on, share, wide


class Trainer:
    """Trains networks of one shape in one compiled program.

    Attributes:
        state: the state after the last segment, with a leading axis of runs; the last run may be
            repeated at the end, so that every device has as many.
        runs: how many runs there are.
        step: the number of steps done.
        parameters: how many numbers the network of a run learns.
        seconds: from the start of training to the last evaluation.
        seconds_in_steps: the time that training took, without evaluation and compilation.
        diverged: for each run whose loss was not finite, by its number: the step, and what to say.
        stopped: for each run that ran out of patience: the step of its last evaluation.
        kept: for each run, where it keeps its best parameters: the step that they are of.
    """

    def __init__(
        self,
        program: Program,
        hypers: Sequence[Hyper],
        seeds: Sequence[int],
        training: Training,
        sets: Sets,
        lockstep: int | None = None,
        shard: str = "runs",
        compiling: Compiling = contextlib.nullcontext,
    ):
        """Draw the initial states.

        Args:
            program: what all runs share.
            hypers: the numbers of each run.
            seeds: the seed of each run.
            training: the batch size, and how often to evaluate what.
            sets: what to train and evaluate on, on the device.
            lockstep: how many runs a device computes at a time; None to choose.
            shard: what is spread over all devices, "runs", or the batch of each run, "batch"; its
                size is then a multiple of the number of devices.
            compiling: makes a context that is entered while something is compiled.
        """
        self.runs, self._training = len(seeds), training
        self._spread = spread = Spread(shard, self.runs, lockstep, compiling)
        self._hypers = stack([hypers[run] for run in spread.rows])
        self._seeds = seeds
        shapes = jax.eval_shape(program.initialise, hypers[0], jax.random.key(0))
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))

        self._sets = spread.placed(sets)
        initialise = self._compiled(program, _as_fast(shapes.params, training), compiling)
        self._examples = len(sets.train.y)
        self.seconds = self.seconds_in_steps = 0.0
        keys = jnp.stack([jax.random.key(seeds[run]) for run in spread.rows])
        if spread.own is not None:
            keys, self._hypers = placed((keys, self._hypers), spread.own)
        self.state: State = initialise(keys, self._hypers, None)
        self.step = 0
        self.diverged: dict[int, tuple[int, str]] = {}
        self.stopped: dict[int, int] = {}
        self.kept: dict[int, int] = {}
        self._best: dict[str, Any] | None = None  # Of each run, at the evaluations of all.
        self._kept: dict[int, int] = {}  # The steps of these.
        self._learned: dict[str, Any] | None = None  # The best, or at its own end a better one.
        self._lowest = [(math.inf, 0)] * self.runs  # Validation loss, and evaluations since.
        self._traces: list[dict[str, np.ndarray]] = []  # Since the last evaluation.

    def _compiled(self, program: Program, as_fast: bool, compiling: Compiling) -> Fitting:
        """Compile the functions of all runs, where they are called; return that of their state."""
        soon = quick(False) if as_fast else {}
        at_once = quick(True)

        def initialise(key, hyper, _):
            return program.initialise(hyper, key)

        def train_segment(state, hyper, indices, data):
            return program.train_segment(state, hyper, data, indices)

        def gradient_norms(state, hyper, batch, data):
            return program.gradient_norms(state, hyper, data, batch)

        # Another trainer of the program in this process compiles nothing.
        def compiled(
            name: str, function: Callable[..., Any], compiler: Mapping[str, Any], **options: Any
        ) -> Fitting:
            found = kept(
                (program, self._spread.key, name, bool(compiler)),
                lambda: self._spread.compiled(function, compiler, **options),
            )
            found.begin_anew(compiling)
            return found

        def select(better, one, other, _):
            return _chosen(better, one, other)

        self._train_segment = compiled("train", train_segment, soon, donate_argnums=0)
        evaluate = self._spread.over_examples(program.evaluate)
        self._evaluate = compiled("evaluate", evaluate, soon)
        self._gradient_norms = compiled("norms", gradient_norms, {})
        self._select = compiled("select", select, at_once)
        return compiled("initialise", initialise, at_once)

    @property
    def learned(self) -> dict[str, Any]:
        """The parameters and running statistics that the runs keep, "params" and "statistics"."""
        return self._current if self._learned is None else self._learned

    @property
    def _current(self) -> dict[str, Any]:
        """The parameters and running statistics after the last step."""
        return {"params": self.state.params, "statistics": self.state.statistics}

    @property
    def steps_per_second(self) -> float:
        """Steps of all runs in a second of training."""
        return self.step * self.runs / self.seconds_in_steps if self.seconds_in_steps else 0.0

    @property
    def working_bytes(self) -> int:
        """The memory of a device beside the states of the runs: the data, and room to compute."""
        data = sum(leaf.nbytes for leaf in jax.tree.leaves(self._sets) if leaf is not None)
        return data + max(self._train_segment.bytes, self._evaluate.bytes)

    def forget(self) -> None:
        """Free the memory of the state, and of what was compiled."""
        del self.state, self._train_segment, self._evaluate, self._gradient_norms
        del self._best, self._learned

    def train(
        self, ends: Sequence[int], advance: Callable[[int, float], None]
    ) -> Iterator[list[Record]]:
        """Train, and yield each evaluation of all runs, the first before any step.

        Between two evaluations an empty list may come. Wherever there is a yield, or a signal ends
        a compilation, `snapshot` holds all that is needed to go on from there: after `restore`,
        what comes is what would have.

        A run whose loss is not finite has None for its metrics from there on. Once all runs have,
        or ran out of patience, it is over. So is None what is not evaluated: the training set
        before the first step, and the test set where no run ends, unless `test_curve` asks for it.

        Args:
            ends: train up to the largest of these steps, and evaluate after each of them too.
            advance: is called with the step and the steps per second after each segment.
        """
        training, started = self._training, time.perf_counter() - self.seconds
        compiled, next_batches = dict[int, Any](), self._order()
        if self.step == 0:
            yield self._records({}, started, training.test_curve)
        elif self._over:
            return
        for lengths in segments.segments(ends, training.eval_every, self.step):
            if (self.step % training.eval_every) == 0:
                self._traces = []  # An end between two evaluations does not cut their mean in two.
            for number, length in enumerate(lengths, 1):
                indices = next_batches(length)
                arguments = (self.state, self._hypers, indices, self._sets.train)
                if not compiled:
                    self._prepare(indices)
                if length not in compiled:
                    compiled[length] = self._train_segment.prepare(*arguments)
                before = time.perf_counter()
                self.state, trace = compiled[length](*arguments)
                trace = self.on_host(trace)
                self.seconds_in_steps += time.perf_counter() - before
                self._check(trace["loss"])
                self._traces.append(jax.tree.map(wide, trace))
                self.step += length
                advance(self.step, self.steps_per_second)
                if len(self.diverged) == self.runs:
                    break
                if number < len(lengths):
                    self.seconds = time.perf_counter() - started
                    yield []
            metrics = {
                f"train_{name}": share(seen.mean(1), seen.dtype, training.batch_size).tolist()
                for name, seen in self._seen().items()
            }
            if training.gradient_norms:
                metrics |= self._norms(indices[:, -1])
            yield self._records(metrics, started, training.test_curve or self.step in ends)
            if self._over:
                return

    def _order(self) -> Callable[[int], jax.Array]:
        """Return what gives the examples of so many next steps of each run."""
        here = self._spread.here
        orders = {
            seed: batches(seed, self._examples, self._training.batch_size, self.step)
            for seed in {self._seeds[run] for run in here}
        }

        def following(steps: int) -> jax.Array:
            taken = {
                seed: np.stack(list(itertools.islice(order, steps)))
                for seed, order in orders.items()
            }
            return self._spread.assembled({run: taken[self._seeds[run]] for run in here})

        return following

    def _norms(self, batch: jax.Array) -> dict[str, list[float]]:
        """The mean and the largest norm of the gradients of a batch's examples, of each run."""
        found = self._gradient_norms(self.state, self._hypers, batch, self._sets.train)
        norms = on_host(found)[: self.runs].astype(np.float64)
        for run, largest in enumerate(norms.max(1)):
            if not math.isfinite(largest):
                self._diverge(run, self.step, f"largest gradient norm is {largest} after")
        values = (norms.mean(1).tolist(), norms.max(1).tolist())
        return dict(zip(GRADIENT_NORMS, values, strict=True))

    def _prepare(self, indices: jax.Array) -> None:
        """Compile what evaluates before a step is done that a signal could cost."""
        state = (self.state, self._hypers)
        for data in (self._sets.validation, self._sets.test):
            if data is not None:
                self._evaluate.prepare(*state, data)
        if self._training.gradient_norms:
            self._gradient_norms.prepare(*state, indices[:, -1], self._sets.train)

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return where the training stands: a tree of arrays, and what JSON can hold."""
        tree = {"state": self.state, "lowest": np.array(self._lowest)}
        if self._best is not None:
            tree["best"] = self.on_host(self._best)
        if self.step % self._training.eval_every:
            tree["seen"] = self._seen()
        notes = {
            "step": self.step,
            "seconds": self.seconds,
            "seconds_in_steps": self.seconds_in_steps,
            "diverged": [[run, *divergence] for run, divergence in self.diverged.items()],
            "stopped": list(self.stopped.items()),
            "kept": list(self._kept.items()),
        }
        return tree, notes

    def restore(self, state: State, tree: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """Go back to where a snapshot was made.

        Args:
            state: of the snapshot, of each run, `like(trainer.state, trainer.runs)`.
            tree: the other arrays of the snapshot; "best" is `like(trainer.learned, trainer.runs)`.
            notes: the rest of it.
        """
        rows = np.array(self._spread.rows)
        self.state = placed(jax.tree.map(lambda leaf: leaf[rows], state), self._spread.own)
        self._lowest = [(loss, int(since)) for loss, since in tree["lowest"].tolist()]
        if "seen" in tree:
            self._traces = [{_BEFORE.get(name, name): v for name, v in tree["seen"].items()}]
        self.step = notes["step"]
        self.seconds, self.seconds_in_steps = notes["seconds"], notes["seconds_in_steps"]
        self.diverged = {run: (step, message) for run, step, message in notes["diverged"]}
        self.stopped, self.kept = dict(notes["stopped"]), dict(notes.get("kept", []))
        if "best" in tree:
            best = jax.tree.map(lambda leaf: leaf[rows], tree["best"])
            self._best = self._learned = placed(best, self._spread.own)
            self._kept = self.kept

    def on_host(self, tree: Any) -> Any:
        """Return arrays of the runs, [runs, ...], as those of NumPy; of random keys, the data."""
        return jax.tree.map(lambda leaf: leaf[: self.runs], on_host(tree))

    def like(self, tree: Any, runs: int) -> Any:
        """Return the shapes and dtypes of such arrays of another number of runs."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape[1:]), leaf.dtype), tree
        )

    def _seen(self) -> dict[str, np.ndarray]:
        """The metrics of each step since the last evaluation, [runs, steps]."""
        return {
            name: np.concatenate([trace[name] for trace in self._traces], axis=1)
            for name in self._traces[0]
        }

    @property
    def _over(self) -> bool:
        return len(self.diverged | self.stopped) == self.runs

    def _records(self, metrics: dict[str, list[float]], started: float, test: bool) -> list[Record]:
        """Evaluate; return what is known of each run at this step."""
        if self._sets.validation is not None:
            metrics.update(self._evaluated("validation", self._sets.validation, self.state))
            before = len(self.stopped)
            self._judge(metrics["validation_loss"])
            test |= len(self.stopped) > before
        if test or self._over:
            learned = self.state._replace(**self.learned)
            metrics.update(self._evaluated("test", self._sets.test, learned))
        self.seconds = time.perf_counter() - started
        steps_per_epoch = self._examples // self._training.batch_size
        without = "validation" if self._sets.validation is None else None
        names = [name for of in SETS if of != without for name in names_on(of)]
        if self._training.gradient_norms:
            names += GRADIENT_NORMS
        nothing = [None] * self.runs
        return [
            {
                "step": self.step,
                "epoch": self.step / steps_per_epoch,
                **{
                    name: None if run in self.diverged else known(metrics.get(name, nothing)[run])
                    for name in names
                },
                "seconds": self.seconds,
            }
            for run in range(self.runs)
        ]

    def _judge(self, losses: Sequence[float]) -> None:
        """Note the runs whose validation loss is the lowest, or has not fallen for too long."""
        over, patience = self.diverged | self.stopped, self._training.patience
        better = [
            run not in over and loss < lowest
            for run, (loss, (lowest, _)) in enumerate(zip(losses, self._lowest, strict=True))
        ]
        # The end of one run is no evaluation of the others.
        of_all = self.step % self._training.eval_every == 0
        if self._training.keep == "best":
            self._learned = self._better(better)
            self.kept = {**self._kept, **dict.fromkeys(np.flatnonzero(better).tolist(), self.step)}
            if of_all:
                self._best, self._kept = self._learned, self.kept
        if not of_all:
            return
        for run, (loss, (lowest, since)) in enumerate(zip(losses, self._lowest, strict=True)):
            self._lowest[run] = (loss, 0) if better[run] else (lowest, since + 1)
            if patience is not None and self._lowest[run][1] >= patience and run not in over:
                self.stopped[run] = self.step

    def _better(self, better: Sequence[bool]) -> dict[str, Any]:
        """Return what the runs have learned: of those that are better the last, else the best."""
        if self._best is None:
            return jax.tree.map(jnp.copy, self._current)  # The next step overwrites the state.
        mask = placed(np.array([better[run] for run in self._spread.rows]), self._spread.own)
        chosen: dict[str, Any] = self._select(mask, self._current, self._best, None)
        return chosen

    def _check(self, losses: np.ndarray) -> None:
        """Note the runs whose training loss, [runs, steps], is not finite."""
        for run, step in np.argwhere(~np.isfinite(losses)):
            self._diverge(run, self.step + step + 1, f"training loss is {losses[run, step]} at")

    def _diverge(self, run: int, step: int, what: str) -> None:
        """Note that a run is not finite, unless it was not before, or is over."""
        if run not in self.stopped:
            message = f"the {what} step {step}; a smaller --learning-rate may help"
            self.diverged.setdefault(int(run), (int(step), message))

    def _evaluated(self, name: str, data: Data, state: State) -> dict[str, list[float]]:
        """The metrics of each run on a set."""
        found = self.on_host(self._evaluate(state, self._hypers, data))
        for run, loss in enumerate(found["loss"].tolist()):
            if not math.isfinite(loss):
                self._diverge(run, self.step, f"{name} loss is {loss} after")
        return {
            f"{name}_{metric}": share(wide(values), values.dtype, len(data.y)).tolist()
            for metric, values in found.items()
        }


def _as_fast(params: Any, training: Training) -> bool:
    """Whether a step takes no longer if it is compiled with `quick(False)`, in half the time."""
    # Convolutions and their backward do not take longer, but updates of parameters and matrix
    # products do. Time of a step with these options / without, Adam, CPU seconds of one core:
    #   small ConvNet, batch 200   digits 0.95, CIFAR-10 1.01   four runs on digits 0.97
    #   the same, batch 32         0.87, 0.88                   batch 1          1.25
    #   ConvNet, 9.2 million       batch 200 1.01               batch 32         1.05
    #   64-100-10, batch 200       1.09                         twenty runs      1.33
    #   784-300-10, batch 200      1.30                         batch 1          6.2
    leaves = jax.tree.leaves(params)
    count = sum(leaf.size for leaf in leaves)
    kernels = sum(leaf.size for leaf in leaves if leaf.ndim == 4)  # Of convolutions.
    return 2 * kernels > count and count <= 1_000_000 and training.batch_size >= 32


def _chosen(better: jax.Array, one: Any, other: Any) -> Any:
    """Return the arrays of one tree where a run is better, or those of the other."""
    return jax.tree.map(lambda a, b: jnp.where(better, a, b), one, other)


# The names of metrics in the checkpoints of earlier versions.
_BEFORE = {"losses": "loss", "corrects": "accuracy"}
