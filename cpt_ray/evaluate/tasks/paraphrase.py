"""Whether two texts say the same, by a linear probe on their embeddings: MRPC as SentEval measures it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from cpt_ray.evaluate.named import local, name_of
from cpt_ray.options import Options

if TYPE_CHECKING:
    import numpy as np

    from cpt_ray.evaluate.embed import Embed


class Paraphrase(Options):
    """Linear probe on |u - v| and u * v of two texts."""

    metric: ClassVar[str] = "accuracy"
    kind: Literal["paraphrase"] = "paraphrase"
    folder: str = Field(
        description="folder with train.tsv and test.tsv (label, sentence1, sentence2), or with msr_paraphrase_train.txt and"
        " msr_paraphrase_test.txt as they are published; or a name, as datasets:nyu-mll/glue#mrpc"
    )

    @property
    def title(self) -> str:
        return name_of(self.folder)

    def files(self) -> list[Path]:
        from cpt_ray.evaluate.lines import either

        root = local(self.folder, "paraphrase")
        published = [either(root / f"msr_paraphrase_{part}.txt") for part in ("train", "test")]
        if published[0].exists():
            return published
        return [either(root / f"{part}.tsv") for part in ("train", "test")]

    def texts(self) -> list[str]:
        first, second, _ = self._read(0)
        return [*first, *second]

    def scores(self, embed: Embed) -> dict[str, float]:
        """Accuracy, and the F1 of what says the same."""
        import numpy as np

        from cpt_ray.evaluate.probe import predicted
        from cpt_ray.evaluate.statistics import Figure

        parts = []
        for number in (0, 1):
            first, second, labels = self._read(number)
            u, v = embed(first, "y"), embed(second, "y")
            parts.append((np.hstack([np.abs(u - v), u * v]), labels))
        (train, classes), (test, labels) = parts
        found = predicted(train, classes, test, 2)
        right, wrong = int(np.count_nonzero(found & labels)), int(np.count_nonzero(found != labels))
        return {
            "accuracy": Figure.of(found == labels, [str(label) for label in found.tolist()]),
            "f1": 2 * right / max(1, 2 * right + wrong),
        }

    def fixed(self) -> dict[str, dict[str, float]]:
        import numpy as np

        labels = self._read(1)[2]
        return {"chance": {"accuracy": float(np.bincount(labels).max() / len(labels))}}

    def items(self) -> list[tuple[str, str]]:
        first, second, labels = self._read(1)
        return [(f"{a}\n{b}", str(label)) for a, b, label in zip(first, second, labels.tolist(), strict=True)]

    def _read(self, number: int) -> tuple[list[str], list[str], np.ndarray]:
        from cpt_ray.evaluate.probe import read_paraphrases

        return read_paraphrases(str(self.files()[number]))
