"""Values of training samples by methods that others have proposed; higher is better.

Each takes a `BaselineData` and a seed, as `datarater`'s own baselines do. The samples are feature
vectors, standardised, with class labels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from datarater.curation import BaselineData
from datarater.curation.baselines import shuffled_batches
from datarater.data import seeded_generator, seeded_globally
from datarater.models import construct_model, data_sizes

NUM_STEPS, BATCH_SIZE, LR = 500, 64, 0.1  # of the models that L2RW and Meta-Weight-Net train


def log_likelihood(model: LogisticRegression, x: np.ndarray, y: np.ndarray) -> float:
    "Mean over samples; a class that the model has not seen counts as 1 in a million."
    columns = {label: column for column, label in enumerate(model.classes_)}
    probabilities = model.predict_proba(x)
    own = [p[columns[label]] if label in columns else 0.0 for p, label in zip(probabilities, y)]
    return float(np.log(np.maximum(own, 1e-6)).mean())


def leave_one_out(data: BaselineData, seed: int) -> Tensor:  # (N,)
    "What a logistic regression's likelihood of the trusted samples loses without each sample."
    x, y, outer_x, outer_y = (part.numpy() for part in data[:4])
    model = LogisticRegression(max_iter=200, warm_start=True).fit(x, y)
    whole, start = log_likelihood(model, outer_x, outer_y), (model.coef_, model.intercept_)
    values = np.zeros(len(x))
    for i in range(len(x)):
        kept = np.arange(len(x)) != i
        if len(np.unique(y[kept])) == len(model.classes_):
            model.coef_, model.intercept_ = (part.copy() for part in start)
            model.fit(x[kept], y[kept])
            values[i] = whole - log_likelihood(model, outer_x, outer_y)
    return torch.from_numpy(values)


def influence(data: BaselineData, seed: int) -> Tensor:  # (N,)
    """Influence on the loss of trusted samples, of a logistic regression: a network's last layer.

    Koh and Liang 2017 (arXiv 1703.04730), with the exact Hessian.
    """
    x, y, outer_x, outer_y = data[:4]
    num_classes = 1 + int(max(y.max(), outer_y.max()))
    a, outer_a = (F.pad(part.double(), (0, 1), value=1.0) for part in (x, outer_x))
    weights = torch.zeros(a.shape[1], num_classes, dtype=torch.float64, requires_grad=True)
    decay = 1 / len(x)  # that of scikit-learn's C = 1

    def loss_of(w: Tensor) -> Tensor:
        return F.cross_entropy(a @ w, y) + decay / 2 * w.square().sum()

    optimizer = torch.optim.LBFGS([weights], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(weights)
        loss.backward()
        return loss

    optimizer.step(closure)
    w = weights.detach()
    size = w.numel()
    hessian = torch.func.hessian(loss_of)(w).reshape(size, size)

    def residuals(inputs: Tensor, labels: Tensor) -> Tensor:  # (n, size)
        error = (inputs @ w).softmax(1) - F.one_hot(labels, num_classes)
        return torch.einsum("nd,nc->ndc", inputs, error).flatten(1)

    outer = residuals(outer_a, outer_y).mean(0)
    return residuals(a, y) @ torch.linalg.solve(hessian, outer)


def data_oob(data: BaselineData, seed: int, num_trees: int = 300) -> Tensor:  # (N,)
    """How often trees that have not seen a sample give its label.

    Data-OOB (Kwon and Zou 2023, arXiv 2304.07718), which makes no use of trusted samples.
    """
    x, y = data.x.numpy(), data.y.numpy()
    trees = BaggingClassifier(DecisionTreeClassifier(), num_trees, random_state=seed).fit(x, y)
    right, counted = np.zeros(len(x)), np.zeros(len(x))
    for tree, drawn in zip(trees.estimators_, trees.estimators_samples_, strict=True):
        out = np.setdiff1d(np.arange(len(x)), drawn)
        right[out] += trees.classes_[tree.predict(x[out]).astype(int)] == y[out]
        counted[out] += 1
    return torch.from_numpy(right / counted.clip(1))


class _Trained:
    "A ToyMLP that is trained by steps of SGD on weighted batches."

    def __init__(self, data: BaselineData, seed: int, method: str):
        generator = seeded_generator(seed, method)
        num_classes = 1 + int(max(data.y.max(), data.outer_y.max()))
        sizes = data_sizes(data.x, num_classes)
        self.model = construct_model("ToyMLP", seed=seed, sizes=sizes)
        self.params = {name: p.detach() for name, p in self.model.named_parameters()}
        rows = torch.arange(len(data.x))
        self.batches = shuffled_batches(data.x, rows, BATCH_SIZE, generator)
        self.outer = shuffled_batches(data.outer_x, data.outer_y, BATCH_SIZE, generator)
        self.y = data.y

    def losses(self, params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:  # (B,)
        return F.cross_entropy(functional_call(self.model, params, (x,)), y, reduction="none")

    def mean_loss(self, params: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return self.losses(params, x, y).mean()

    def step(self, x: Tensor, y: Tensor, weights: Tensor) -> None:
        slopes = grad(lambda params: (weights * self.losses(params, x, y)).sum())(self.params)
        self.params = {name: p - LR * slopes[name] for name, p in self.params.items()}


def l2rw(data: BaselineData, seed: int) -> Tensor:  # (N,)
    """Mean weight over the second half of training: by how much a step on the sample alone would
    lower the loss of trusted samples, if at all.

    Learning to reweight (Ren et al. 2018, arXiv 1803.09050).
    """
    run, total = _Trained(data, seed, "l2rw"), torch.zeros(len(data.x), dtype=torch.float64)
    counted = torch.zeros_like(total)
    per_sample = vmap(grad(lambda p, x, y: run.mean_loss(p, x[None], y[None])), (None, 0, 0))
    for step in range(NUM_STEPS):
        (x, rows), outer = next(run.batches), next(run.outer)
        y = run.y[rows]
        toward, slopes = grad(run.mean_loss)(run.params, *outer), per_sample(run.params, x, y)
        gain = sum((slopes[name] * toward[name]).flatten(1).sum(1) for name in slopes)
        weights = gain.clamp_min(0)
        weights = weights / weights.sum().clamp_min(1e-12)
        run.step(x, y, weights)
        if step >= NUM_STEPS // 2:
            total[rows] += weights.double()
            counted[rows] += 1
    return total / counted.clamp_min(1)


def meta_weight_net(data: BaselineData, seed: int) -> Tensor:  # (N,)
    """The weight that a small network gives to each sample's loss at the end of training.

    Meta-Weight-Net (Shu et al. 2019, arXiv 1902.07379): a rater of the loss alone.
    """
    run = _Trained(data, seed, "meta_weight_net")
    with seeded_globally(seed):
        net = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def weights_of(losses: Tensor) -> Tensor:
        weights = net(losses.detach()[:, None])[:, 0]
        return weights / weights.sum().clamp_min(1e-12)

    for _ in range(NUM_STEPS):
        (x, rows), outer = next(run.batches), next(run.outer)
        y = run.y[rows]
        params = {name: p.clone().requires_grad_() for name, p in run.params.items()}
        losses = run.losses(params, x, y)
        weighted = (weights_of(losses) * losses).sum()
        slopes = torch.autograd.grad(weighted, tuple(params.values()), create_graph=True)
        after = {name: p - LR * g for (name, p), g in zip(params.items(), slopes)}
        optimizer.zero_grad()
        run.mean_loss(after, *outer).backward()
        optimizer.step()
        with torch.no_grad():
            weights = weights_of(losses)
        run.step(x, y, weights)
    with torch.no_grad():
        return net(run.losses(run.params, data.x, data.y)[:, None])[:, 0]


VALUERS = {
    "leave_one_out": leave_one_out,
    "influence": influence,
    "data_oob": data_oob,
    "l2rw": l2rw,
    "meta_weight_net": meta_weight_net,
}
