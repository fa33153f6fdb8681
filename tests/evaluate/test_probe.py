"""The linear probe against scikit-learn, and on real classes."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cpt_ray.errors import UserError
from cpt_ray.evaluate.probe import accuracy, cross_validated, fit, read_classification


def _blobs(n: int, classes: int = 3, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return 2 * np.eye(classes, 6)[labels] + spread * rng.standard_normal((n, 6)), labels


def test_weights_equal_scikit_learn() -> None:
    """The minimiser is scikit-learn's for the same penalty (its C is 1 / (penalty * N)), up to what softmax leaves
    free."""
    features, labels = _blobs(300)
    ours = fit(features, labels, 3, 0.01)
    theirs = LogisticRegression(C=1 / (0.01 * 300), tol=1e-8, max_iter=2000).fit(features, labels)
    np.testing.assert_allclose(ours[:-1], theirs.coef_.T, atol=1e-3)
    bias = ours[-1] - ours[-1].mean()
    np.testing.assert_allclose(bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-3)


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
