"""Linear probe: how well frozen embeddings separate labelled classes (the SentEval tasks of arXiv 2201.10005).

A multinomial logistic regression (scikit-learn) on standardised features, fitted on the full data: it is convex, so
there is nothing to seed, and Newton's method takes five to fifteen steps where L-BFGS takes hundreds on the features of a
model: with its Hessian where there are two classes, by conjugate gradients where there are more, since a Hessian of all
classes at once costs ten times the time (six classes of 256 features).
The strength of the L2 penalty is chosen on a tenth of the training data (or on a given dev part), then the probe is
fitted again on all of it. Tasks without a split (MR, CR) are measured by 10-fold cross-validation, as SentEval does.
"""

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.evaluate.labelled import Labels
from cpt_ray.evaluate.labelled import read_classification as read_classification
from cpt_ray.evaluate.lines import fields
from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Floats

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # weight of ||W||^2 / 2 beside the mean log loss
NEWTON = 2048
"""Weights up to which their Hessian is cheap: 32 MiB."""


def read_paraphrases(path: str) -> tuple[list[str], list[str], Labels]:
    """Two texts a row and whether they say the same (N,) int64, from a TSV file with the columns `label`, `sentence1`,
    `sentence2`, or from MRPC's own (label, two numbers, two texts), each with a header."""
    (_, header), *rows = list(fields(path)) or [("", [])]
    for where, row in rows:
        if len(row) != len(header) or len(row) not in (3, 5) or row[0] not in ("0", "1"):
            raise UserError(
                "not a label and two texts",
                where=where,
                fix="expected tab-separated fields: 0 or 1, maybe two numbers, two texts",
            )
    if not rows:
        raise UserError("no label and two texts in it", where=path, fix="see docs/analyst.md for the layouts")
    labels = np.array([int(row[0]) for _, row in rows], np.int64)
    return [row[-2] for _, row in rows], [row[-1] for _, row in rows], labels


def fit(features: Floats, labels: Labels, classes: int, penalty: float) -> Floats:
    """Weights (D + 1, C) float64 that minimise mean log loss + penalty * ||W||^2 / 2; the last row is the bias, which
    is not penalised. `features` (N, D) should be standardised; `labels` are 0 .. C-1, not all of them need occur."""
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((features.shape[1] + 1, classes))
    present = np.unique(labels)
    if len(present) == 1:
        weights[-1, present[0]] = 1.0
        return weights
    # Two classes have one vector there, w1 - w0, whose square counts twice what w0 = -w1 do.
    strength = (2 if len(present) == 2 else 1) / (penalty * len(labels))
    small = len(present) == 2 and weights.shape[0] <= NEWTON
    solver = "newton-cholesky" if small else "newton-cg"
    found = LogisticRegression(C=strength, solver=solver, tol=1e-6, max_iter=500)
    found.fit(np.asarray(features, np.float64), labels)
    own = np.vstack([found.coef_.T, found.intercept_])
    weights[:, present] = np.hstack([-own / 2, own / 2]) if len(present) == 2 else own
    return weights


def accuracy(
    train: Floats, train_labels: Labels, test: Floats, test_labels: Labels, dev: tuple[Floats, Labels] | None = None
) -> Figure:
    """Share of the test rows (M, D) that a probe fitted on the train rows (N, D) puts into the right class."""
    found = predicted(train, train_labels, test, int(max(train_labels.max(), test_labels.max())) + 1, dev)
    return Figure.of(found == test_labels, [str(label) for label in found.tolist()])


def predicted(
    train: Floats, train_labels: Labels, test: Floats, classes: int, dev: tuple[Floats, Labels] | None = None
) -> Labels:
    """(M,) int64: the classes in which a probe fitted on the train rows (N, D) puts the test rows (M, D)."""
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1.0

    def standard(vectors: Floats) -> Floats:
        scaled: Floats = (vectors - mean) / deviation
        return scaled

    inputs = standard(train)
    if dev is None:
        held = _fold(len(train), 10) == 0
        fitting, checking = (inputs[~held], train_labels[~held]), (inputs[held], train_labels[held])
    else:
        fitting, checking = (inputs, train_labels), (standard(dev[0]), dev[1])
    penalty = max(PENALTIES, key=lambda value: _right(fit(*fitting, classes, value), *checking))
    return _classes(fit(inputs, train_labels, classes, penalty), standard(test))


def cross_validated(vectors: Floats, labels: Labels, folds: int = 10) -> Figure:
    """Mean accuracy over `folds` parts, each tested by a probe fitted on the others."""
    if len(vectors) < folds:
        raise UserError(
            f"{len(vectors)} rows are too few for {folds} folds", fix="give more, or a train and a test part"
        )
    part = _fold(len(vectors), folds)
    found = np.empty_like(labels)
    for k in range(folds):
        rest = part != k
        found[~rest] = predicted(vectors[rest], labels[rest], vectors[~rest], int(labels.max()) + 1)
    # Parts differ by a row at most; each counts the same.
    weight = len(labels) / folds / np.bincount(part, minlength=folds)
    return Figure.of((found == labels) * weight[part], [str(label) for label in found.tolist()])


def vote(queries: Floats, known: Floats, labels: Labels, k: int) -> Labels:
    """(Q,) int64: the commonest label among each query's k nearest rows of `known` (cosine); ties to the lower."""
    k = min(k, len(known))
    found = []
    for start in range(0, len(queries), 1024):
        nearest = np.argpartition(-(queries[start : start + 1024] @ known.T), k - 1, axis=1)[:, :k]
        counts = np.stack([(labels[nearest] == label).sum(axis=1) for label in range(int(labels.max()) + 1)], axis=1)
        found.append(np.argmax(counts, axis=1))
    return np.concatenate(found)


def _fold(n: int, folds: int) -> Labels:
    """(n,) which part a row belongs to: a fixed shuffle, since the files are often sorted by label."""
    return np.random.default_rng(0).permutation(n) % folds


def _right(weights: Floats, features: Floats, labels: Labels) -> float:
    return float(np.mean(_classes(weights, features) == labels))


def _classes(weights: Floats, features: Floats) -> Labels:
    found: Labels = np.argmax(features @ weights[:-1] + weights[-1], axis=1)
    return found
