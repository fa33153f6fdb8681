"""The linear probe against scikit-learn, and on real classes."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from cpt_ray.errors import UserError
from cpt_ray.evaluate.probe import accuracy, cross_validated, fit, read_classification


def _blobs(n: int, classes: int = 3, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return 2 * np.eye(classes, 6)[labels] + spread * rng.standard_normal((n, 6)), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_weights_minimise_the_loss_they_are_said_to(classes: int) -> None:
    """Against scipy's L-BFGS on the loss as it is written down, up to the bias that softmax leaves free."""
    features, labels = _blobs(300, classes)
    inputs, rows = np.hstack([features, np.ones((300, 1))]), np.arange(300)

    def loss(flat: np.ndarray) -> float:
        weights = flat.reshape(7, classes)
        return -log_softmax(inputs @ weights, axis=1)[rows, labels].mean() + 0.01 / 2 * (weights[:-1] ** 2).sum()

    expected = minimize(loss, np.zeros(7 * classes), options={"gtol": 1e-7}).x.reshape(7, classes)
    found = fit(features, labels, classes, 0.01)
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=1e-4)
    np.testing.assert_allclose(found[-1] - found[-1].mean(), expected[-1] - expected[-1].mean(), atol=1e-4)


def test_a_class_that_does_not_occur_is_never_said() -> None:
    features, labels = _blobs(90)
    two, one = labels != 1, labels == 2
    assert set(np.argmax(features @ fit(features[two], labels[two], 3, 0.01)[:-1], axis=1)) <= {0, 1, 2}
    only = fit(features[one], labels[one], 3, 0.01)
    assert set(np.argmax(features @ only[:-1] + only[-1], axis=1)) == {2}


def test_separable_classes_and_noise() -> None:
    """Classes far apart are told apart; labels unrelated to the features are not, whatever the folds."""
    features, labels = _blobs(300, spread=0.1)
    assert accuracy(features[:200], labels[:200], features[200:], labels[200:]) == 1.0
    noise = np.random.default_rng(1).standard_normal((400, 5))
    assert cross_validated(noise, np.arange(400) % 2) == pytest.approx(0.5, abs=0.1)


def test_a_constant_feature_is_harmless() -> None:
    """A column without spread must not become NaN."""
    features, labels = _blobs(120, spread=0.1)
    features[:, 3] = 7
    assert accuracy(features[:80], labels[:80], features[80:], labels[80:]) == 1.0


def test_question_types(eval_data: Path, embed) -> None:
    """TREC's six question types from word counts: far above the largest class (0.28)."""
    texts, labels = read_classification(str(eval_data / "classification" / "TREC" / "train.tsv"))
    test, test_labels = read_classification(str(eval_data / "classification" / "TREC" / "test.tsv"))
    texts, labels = texts[:600], labels[:600]
    assert accuracy(embed(texts), labels, embed(test), test_labels) > 0.5


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    """A row that is not label and text is an error with its line."""
    (tmp_path / "t.tsv").write_text("label\ttext\n1\tgood\nbad line\n")
    with pytest.raises(UserError, match=r"t\.tsv:3"):
        read_classification(str(tmp_path / "t.tsv"))
