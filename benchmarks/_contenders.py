"""What `peers.py` compares: LeNet-5 in PyTorch, in JAX and in every executor of lenet, and the process that runs one.

    python benchmarks/_contenders.py NAME THREADS

reads one JSON request a line and answers with one JSON object a line. Each library is imported only by its contender,
so that none meets the threads, the settings or the memory of another.
"""

import json
import os
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from _arrays import fold, mask, normalized, tables, unfold
from numpy.typing import DTypeLike, NDArray

from lenet import backends
from lenet.data import load_dataset
from lenet.executors import EagerExecutor, EpochPlan, Executor, State
from lenet.info import versions
from lenet.initialize import initialize
from lenet.kernels.cpu.peak import MultiplyAdds
from lenet.lenet5 import lenet5
from lenet.network import Network
from lenet.optimizers import Adam, hyper_table
from lenet.settings import Settings
from lenet.storage import Description
from lenet.streams import Purpose, permutation, stream
from lenet.training import first_state, plan_epoch, train

LEARNING_RATE = 0.001
SAMPLE = 16_384  # training images that the timed steps draw from
CHUNKS = (16, 32, 50, 64, 100, 128, 200, 256, 500)  # sizes that a large batch is cut into by hand, to find the best
EVALUATION_CHUNK = 250  # divides the training and the test images, so that compiled code sees one size

Job = Callable[[], object]
Floats = NDArray[Any]


class Epoch(NamedTuple):
    """What one epoch of the default training reached."""

    cost: float
    test_accuracy: float


class Problem:
    """The work that is the same for all: images, labels, order of the images, network and first weights."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.rule = Adam()
        self.data = load_dataset()
        self.network: Network = lenet5(self.settings.network, self.data.height, self.data.width, self.data.classes)
        self.weights = initialize(self.network, self.settings.training.initialization, self.settings.training.seed)
        self.order = permutation(stream(1, Purpose.ORDER, 1), SAMPLE)


class Contender(ABC):
    """One implementation of the network."""

    package: ClassVar[str]

    def __init__(self, problem: Problem, threads: int) -> None:
        self.problem, self.threads = problem, threads

    @abstractmethod
    def reset(self) -> None:
        """Return to the first weights, with nothing in the optimizer's memory."""

    @abstractmethod
    def training(self, batch: int, steps: int) -> Job:
        """Prepare steps of Adam on batches of the sample, in its order."""

    @abstractmethod
    def state(self) -> tuple[Floats, Floats]:
        """Return the weights and Adam's mean of the gradients, as vectors in lenet's order."""

    @abstractmethod
    def answer(self, count: int) -> Callable[[], Any]:
        """Prepare the logits of the first test images; what is returned computes them once."""

    def inference(self, count: int, calls: int) -> Job:
        """Prepare to answer the first test images several times."""
        answer = self.answer(count)

        def run() -> None:
            for _ in range(calls):
                answer()

        return run

    def epochs(self) -> Iterator[Epoch | None]:
        """Run the default training, each epoch with distortion and evaluation; first None, once all is compiled."""
        raise NotImplementedError(f"{type(self).__name__} runs no epochs")

    @property
    def remark(self) -> str:
        """What was chosen at run time."""
        return ""


# lenet -----------------------------------------------------------------------------------------------------------


class NumpyEager(Contender):
    """The eager executor on NumPy."""

    package = "numpy"

    def __init__(self, problem: Problem, threads: int, dtype: DTypeLike = np.float32) -> None:
        super().__init__(problem, threads)
        self._dtype = np.dtype(dtype)
        self._executor = self._make(averaging=False)
        self._samples = self._executor.upload(problem.data.train_images[:SAMPLE], problem.data.train_labels[:SAMPLE])

    def _make(self, averaging: bool) -> Executor:
        backend = backends.get("numpy", dtype=self._dtype)
        return EagerExecutor(self.problem.network, backend, self.problem.rule, averaging)

    def reset(self) -> None:
        weights = self.problem.weights.astype(self._dtype)
        self._executor.write(State(weights, np.zeros((Adam.moments, len(weights)), self._dtype), None))

    def training(self, batch: int, steps: int) -> Job:
        plan = EpochPlan(
            order=np.resize(self.problem.order, batch * steps),
            transforms=None,
            hyper=hyper_table(
                self.problem.rule,
                "constant",
                peak=LEARNING_RATE,
                warmup=0,
                average=0,
                first=0,
                count=steps,
                total=steps,
            ),
            batch_size=batch,
        )
        return lambda: self._executor.train_epoch(self._samples, plan)

    def state(self) -> tuple[Floats, Floats]:
        state = self._executor.read()
        return state.parameters, state.moments[0]

    def answer(self, count: int) -> Callable[[], Any]:
        images = self.problem.data.test_images[:count]
        return lambda: self._executor.predict(images)

    def epochs(self) -> Iterator[Epoch | None]:
        problem, data, executor = self.problem, self.problem.data, self._make(averaging=True)
        training = problem.settings.training
        executor.write(first_state(problem.network, problem.settings))
        few = executor.upload(data.train_images[: training.batch_size], data.train_labels[: training.batch_size])
        executor.train_epoch(few, plan_epoch(problem.settings, 1, len(few), data.height, data.width))
        executor.evaluate(few)
        yield None
        description = Description(
            settings=problem.settings,
            height=data.height,
            width=data.width,
            classes=data.classes,
            dataset=data.name,
            dataset_source=None,
            dataset_sha256=data.sha256,
            train_images=len(data.train_labels),
            validation_images=0,
            backend=executor.backend.name,
            device=executor.backend.device,
            executor=executor.name,
            versions=versions(),
        )
        with tempfile.TemporaryDirectory() as folder:
            for record in train(executor, data, Path(folder) / "trained", description):
                yield Epoch(record.cost, record.test_accuracy)


class NumpyFloat64(NumpyEager):
    """The same in double precision: a reference, where there is no PyTorch."""

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads, np.float64)


class NumbaEager(NumpyEager):
    """The eager executor on Numba."""

    package = "numba"

    def _make(self, averaging: bool) -> Executor:
        backend = backends.get("numba", threads=self.threads)
        return EagerExecutor(self.problem.network, backend, self.problem.rule, averaging)


class NumbaFused(NumpyEager):
    """The fused executor, which ``--device cpu`` means."""

    package = "numba"

    def _make(self, averaging: bool) -> Executor:
        from lenet.executors.numba_fused import FusedExecutor

        backend = backends.get("numba", threads=self.threads)
        return FusedExecutor(self.problem.network, backend, self.problem.rule, averaging)


# PyTorch ---------------------------------------------------------------------------------------------------------


class TorchEager(Contender):
    """PyTorch as it is fast on a CPU: plain functions, images in float32 beforehand, Adam fused, no gradient lost."""

    package = "torch"

    def __init__(self, problem: Problem, threads: int, dtype: str = "float32") -> None:
        super().__init__(problem, threads)
        self.torch = torch = import_module("torch")
        torch.set_num_threads(threads)
        self._dtype = getattr(torch, dtype)
        self._mask = torch.from_numpy(mask(tables(problem.network)["C3.weight"])).to(self._dtype)
        self._first = {
            name: torch.from_numpy(array).to(self._dtype)
            for name, array in unfold(problem.network, problem.weights).items()
        }
        self._parameters = [tensor.clone().requires_grad_() for tensor in self._first.values()]
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=LEARNING_RATE, betas=(problem.rule.beta1, problem.rule.beta2),
            eps=problem.rule.epsilon, fused=True,
        )  # fmt: skip
        self._forward, self._loss = self._ready(self.forward), self._ready(self.loss)
        self._distort = self._ready(self.distort)
        self._images = self._tensor(problem.data.train_images[:SAMPLE])
        self._labels = torch.from_numpy(problem.data.train_labels[:SAMPLE]).long()
        self._test_images = self._tensor(problem.data.test_images)

    def _ready(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function as it is called: here, as it is."""
        return function

    def _tensor(self, images: NDArray[np.uint8]) -> Any:
        """Return bytes (M, H, W) as numbers (M, 1, H, W) from 0 to 1."""
        return self.torch.from_numpy(images[:, None]).to(self._dtype) / 255

    def forward(self, x: Any, parameters: list[Any]) -> Any:
        """Return the logits; the kernels of unconnected maps are zero."""
        functional = self.torch.nn.functional
        w1, b1, w3, b3, w5, b5, w6, b6, w7, b7 = parameters
        x = functional.avg_pool2d(functional.conv2d(x, w1, b1).sigmoid(), 2)
        x = functional.avg_pool2d(functional.conv2d(x, w3, b3).sigmoid(), 2)
        x = functional.linear(x.flatten(1), w5, b5).sigmoid()
        x = functional.linear(x, w6, b6).sigmoid()
        return functional.linear(x, w7, b7)

    def loss(self, x: Any, labels: Any, parameters: list[Any]) -> Any:
        """Return the mean cross-entropy; the mask keeps unconnected maps so in training."""
        w1, b1, w3, *others = parameters
        logits = self.forward(x, [w1, b1, w3 * self._mask, *others])
        return self.torch.nn.functional.cross_entropy(logits, labels)

    def distort(self, images: Any, theta: Any) -> Any:
        """Resample a batch at once, each image through its own affine map."""
        functional = self.torch.nn.functional
        grid = functional.affine_grid(theta, list(images.shape), align_corners=True)
        return functional.grid_sample(images, grid, align_corners=True)

    def reset(self) -> None:
        with self.torch.no_grad():
            for parameter, first in zip(self._parameters, self._first.values(), strict=True):
                parameter.copy_(first)
        self._optimizer.state.clear()

    def _step(self, x: Any, labels: Any) -> Any:
        loss = self._loss(x, labels, self._parameters)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def training(self, batch: int, steps: int) -> Job:
        order = self.torch.from_numpy(np.resize(self.problem.order, batch * steps)).long()

        def run() -> None:
            for index in order.split(batch):
                self._step(self._images[index], self._labels[index])

        return run

    def state(self) -> tuple[Floats, Floats]:
        weights = [parameter.detach().numpy() for parameter in self._parameters]
        moments = [self._optimizer.state[parameter]["exp_avg"].numpy() for parameter in self._parameters]
        return self._fold(weights), self._fold(moments)

    def _fold(self, arrays: list[Floats]) -> Floats:
        return fold(self.problem.network, dict(zip(self._first, arrays, strict=True)))

    def answer(self, count: int) -> Callable[[], Any]:
        images = self._test_images[:count]
        parameters = [parameter.detach() for parameter in self._parameters]

        def answer() -> Any:
            with self.torch.inference_mode():
                return self._forward(images, parameters)

        return answer

    def epochs(self) -> Iterator[Epoch | None]:
        torch, data, training = self.torch, self.problem.data, self.problem.settings.training
        images, labels = self._tensor(data.train_images), torch.from_numpy(data.train_labels).long()
        test_labels = torch.from_numpy(data.test_labels).long()
        still = torch.eye(2, 3).repeat(training.batch_size, 1, 1)
        for count in {training.batch_size, len(images) % training.batch_size} - {0}:  # compiles, where anything does
            self._step(self._distort(images[:count], still[:count]), labels[:count])
        self.reset()
        average = [parameter.detach().clone() for parameter in self._parameters]
        self._correct(self._test_images[:EVALUATION_CHUNK], test_labels[:EVALUATION_CHUNK], average)
        yield None

        for epoch in range(1, training.epochs + 1):
            plan = plan_epoch(self.problem.settings, epoch, len(images), data.height, data.width)
            assert plan.transforms is not None
            theta = torch.from_numpy(normalized(plan.transforms, data.height, data.width))
            order, total = torch.from_numpy(plan.order).long(), torch.zeros(())
            batches = zip(order.split(plan.batch_size), theta.split(plan.batch_size), plan.hyper, strict=True)
            for index, maps, (rate, _, _, decay) in batches:
                self._optimizer.param_groups[0]["lr"] = rate
                loss = self._step(self._distort(images[index], maps), labels[index])
                total += loss * len(index)
                with torch.no_grad():
                    torch._foreach_lerp_(average, self._parameters, 1 - decay)
            self._correct(images, labels, average)
            correct = self._correct(self._test_images, test_labels, average)
            yield Epoch(float(total) / len(images), correct / len(test_labels))

    def _correct(self, images: Any, labels: Any, parameters: list[Any]) -> int:
        """Count right answers, in chunks that stay in the cache."""
        with self.torch.inference_mode():
            chunks = zip(images.split(EVALUATION_CHUNK), labels.split(EVALUATION_CHUNK), strict=True)
            return int(sum((self._forward(x, parameters).argmax(1) == y).sum() for x, y in chunks))


class TorchFloat64(TorchEager):
    """The same in double precision: the reference."""

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads, "float64")


class TorchCompile(TorchEager):
    """The same, with loss, answers and distortion compiled, for each size of batch by itself."""

    def _ready(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self.torch.compile(function, dynamic=False)


class TorchChunked(TorchEager):
    """The same as eager, but for a large batch to answer, which is cut into chunks of the size that is fastest here."""

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self._chunks: dict[int, int] = {}

    def answer(self, count: int) -> Callable[[], Any]:
        images = self._test_images[:count]
        parameters = [parameter.detach() for parameter in self._parameters]

        def in_chunks(size: int) -> Any:
            with self.torch.inference_mode():
                return self.torch.cat([self._forward(chunk, parameters) for chunk in images.split(size)])

        def seconds(size: int) -> float:
            return min(_seconds(lambda: in_chunks(size)) for _ in range(3))

        if count not in self._chunks:
            self._chunks[count] = min(CHUNKS, key=seconds)
        size = self._chunks[count]
        return lambda: in_chunks(size)

    @property
    def remark(self) -> str:
        return f"chunks of {self._chunks[max(self._chunks)]}" if self._chunks else ""


# JAX -------------------------------------------------------------------------------------------------------------


class JaxJit(Contender):
    """JAX: loss, gradient and Adam in one compiled function, whose old weights are given up to the new ones."""

    package = "jax"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self.jax = jax = import_module("jax")
        self._step = jax.jit(self.step, donate_argnums=0)
        self._forward = jax.jit(self.forward)
        self._names = list(unfold(problem.network, problem.weights))
        data = problem.data
        self._images = data.train_images[:SAMPLE, None].astype(np.float32) / np.float32(255)
        self._labels = data.train_labels[:SAMPLE]
        self._mask = mask(tables(problem.network)["C3.weight"])

    def forward(self, parameters: list[Any], x: Any) -> Any:
        """Return the logits."""
        jax, sigmoid = self.jax, self.jax.nn.sigmoid

        def convolve(x: Any, weight: Any, bias: Any) -> Any:
            numbers = ("NCHW", "OIHW", "NCHW")
            y = jax.lax.conv_general_dilated(x, weight, (1, 1), "VALID", dimension_numbers=numbers)
            return y + bias[:, None, None]

        def pool(x: Any) -> Any:
            count, maps, height, width = x.shape
            return x.reshape(count, maps, height // 2, 2, width // 2, 2).mean((3, 5))

        w1, b1, w3, b3, w5, b5, w6, b6, w7, b7 = parameters
        x = pool(sigmoid(convolve(x, w1, b1)))
        x = pool(sigmoid(convolve(x, w3 * self._mask, b3)))
        x = sigmoid(x.reshape(len(x), -1) @ w5.T + b5)
        x = sigmoid(x @ w6.T + b6)
        return x @ w7.T + b7

    def loss(self, parameters: list[Any], x: Any, labels: Any) -> Any:
        """Return the mean cross-entropy."""
        scores = self.jax.nn.log_softmax(self.forward(parameters, x))
        return -self.jax.numpy.take_along_axis(scores, labels[:, None], axis=1).mean()

    def step(self, state: Any, x: Any, labels: Any) -> Any:
        """Return weights, moments and number of steps after one more step of Adam."""
        rule, root = self.problem.rule, self.jax.numpy.sqrt
        parameters, mean, square, done = state
        gradients = self.jax.grad(self.loss)(parameters, x, labels)
        done = done + 1
        mean = [rule.beta1 * m + (1 - rule.beta1) * g for m, g in zip(mean, gradients, strict=True)]
        square = [rule.beta2 * v + (1 - rule.beta2) * g * g for v, g in zip(square, gradients, strict=True)]
        c1, c2 = 1 - rule.beta1**done, 1 - rule.beta2**done
        parameters = [
            w - LEARNING_RATE * (m / c1) / (root(v / c2) + rule.epsilon)
            for w, m, v in zip(parameters, mean, square, strict=True)
        ]
        return parameters, mean, square, done

    def reset(self) -> None:
        arrays = unfold(self.problem.network, self.problem.weights.astype(np.float32)).values()
        to_device = self.jax.numpy.array
        zeros = [[to_device(np.zeros_like(array)) for array in arrays] for _ in range(2)]
        self._state = [to_device(array) for array in arrays], *zeros, to_device(np.float32(0))

    def training(self, batch: int, steps: int) -> Job:
        order = np.resize(self.problem.order, (steps, batch))

        def run() -> None:
            for index in order:
                self._state = self._step(self._state, self._images[index], self._labels[index])
            self.jax.block_until_ready(self._state)

        return run

    def state(self) -> tuple[Floats, Floats]:
        weights, moments = (
            fold(self.problem.network, dict(zip(self._names, map(np.asarray, arrays), strict=True)))
            for arrays in self._state[:2]
        )
        return weights, moments

    def answer(self, count: int) -> Callable[[], Any]:
        pixels = self.problem.data.test_images[:count, None].astype(np.float32) / np.float32(255)
        images = self.jax.numpy.array(pixels)
        return lambda: self._forward(self._state[0], images).block_until_ready()


CONTENDERS: dict[str, type[Contender]] = {
    "PyTorch eager, chunked": TorchChunked,
    "PyTorch eager": TorchEager,
    "torch.compile": TorchCompile,
    "JAX jit": JaxJit,
    "lenet numpy eager": NumpyEager,
    "lenet numba eager": NumbaEager,
    "lenet numba fused": NumbaFused,
}
"""By the name in the tables; ratios are to the first that takes part in a case."""

REFERENCES: dict[str, type[Contender]] = {"PyTorch float64": TorchFloat64, "lenet numpy float64": NumpyFloat64}
"""Whose results are right, the first that is installed."""

PEAK = "FMA peak"


# the process -----------------------------------------------------------------------------------------------------


def _seconds(job: Job) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


class Worker:
    """Answers the requests for one contender: each is the name of a method and its arguments."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._epochs: Iterator[Epoch | None] = iter(())

    def hello(self) -> dict[str, Any]:
        """Say that everything is imported, and which version."""
        return {"package": self._contender.package, "version": version(self._contender.package)}

    def results(self, file: str, batch: int, steps: list[int]) -> dict[str, Any]:
        """Save the logits of the first weights, and weights and mean gradients after so many steps, in an npz file."""
        contender = self._contender
        found: dict[str, Floats] = {}
        contender.reset()
        for count in (1, batch):
            found[f"logits of {count}"] = np.asarray(contender.answer(count)())
        for count in steps:
            contender.reset()
            contender.training(batch, count)()
            found[f"weights {count}"], found[f"moments {count}"] = contender.state()
        np.savez(file, allow_pickle=False, **found)
        return {}

    def time(self, work: str, size: int, calls: int) -> dict[str, Any]:
        """Time training steps or answers, from the first weights on; what prepares them is not timed."""
        self._contender.reset()
        prepare = {"train": self._contender.training, "infer": self._contender.inference}[work]
        return {"seconds": _seconds(prepare(size, calls)), "remark": self._contender.remark}

    def warm_up(self) -> dict[str, Any]:
        """Compile what the epochs need."""
        self._epochs = self._contender.epochs()
        next(self._epochs)
        return {}

    def epoch(self) -> dict[str, Any]:
        """Time the next epoch of the default training."""
        start = time.perf_counter()
        epoch = next(self._epochs)
        seconds = time.perf_counter() - start
        assert epoch is not None
        return {"seconds": seconds, **epoch._asdict()}


class Peak:
    """Answers requests for the peak of ``threads`` cores together."""

    def __init__(self, threads: int) -> None:
        self._adds = MultiplyAdds(threads)

    def hello(self) -> dict[str, Any]:
        """Say that everything is compiled."""
        return {"chains": self._adds.chains.count}

    def time(self, work: str, size: int, calls: int) -> dict[str, Any]:
        """Time calls; the peak is known by the floating-point operations that they make in all."""
        return {"seconds": self._adds.seconds(calls), "operations": calls * self._adds.operations, "remark": ""}


def main() -> None:
    """Answer requests until there are no more."""
    name, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # whatever threads a library starts, they share as many CPUs
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no reply

    if name == PEAK:
        worker: Any = Peak(threads)
    else:
        worker = Worker((CONTENDERS | REFERENCES)[name](Problem(), threads))
    for line in sys.stdin:
        request, arguments = json.loads(line)
        try:
            reply = getattr(worker, request)(**arguments)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    main()
