"""Corruptions `poison:by_cnn` and `poison:by_mlp`: images attacked once, against a trained model.

The model is trained plainly, on 12,000 images of MNIST's training set, when it is first needed.
"""

from functools import cache

import torch
from runs import batches
from torch import Tensor

from datarater.data import MNISTDataRaterDataset, fetch_batch, register_corruption
from datarater.method import pgd_poison
from datarater.models import construct_model, data_sizes, fit_classifier

EPS, NUM_IMAGES, NUM_STEPS = 0.3, 12_000, 500


@cache
def poison_against(name: str):
    "The corruption whose images are made against a model of that name."
    pool = MNISTDataRaterDataset().pool()
    chosen = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))[:NUM_IMAGES]
    x, y = fetch_batch(pool, chosen)
    model = construct_model(name, seed=0, sizes=data_sizes(x, 10))
    fit_classifier(model, batches(x, y, seed=0), NUM_STEPS)
    return pgd_poison(model, eps=EPS)


@register_corruption("poison_by_cnn", all_or_nothing=True, made_once=True)
def by_cnn(*given) -> tuple[Tensor, Tensor]:
    "Against a ToyCNN, the architecture that is trained downstream."
    return poison_against("ToyCNN")(*given)


@register_corruption("poison_by_mlp", all_or_nothing=True, made_once=True)
def by_mlp(*given) -> tuple[Tensor, Tensor]:
    "Against another architecture, a perceptron."
    return poison_against("ToyMLP")(*given)
