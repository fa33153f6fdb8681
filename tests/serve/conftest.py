"""A tiny real model folder, and a published table of functions."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.parquet import write_table
from cpt_ray.artifacts.store import build


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained decoder of width 32 with a byte-level tokenizer, saved as training saves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from cpt_ray.model.delimiters import Delimiters
    from cpt_ray.model.encoder import Encoder
    from cpt_ray.model.options import ModelOptions
    from cpt_ray.model.weights import ModelInfo, new_language_model, save_model

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        ["def parse(date): return date"] * 3,
        trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    options = ModelOptions(architecture="llama", hidden_size=32, layers=2, heads=2, context=64)
    backbone = new_language_model(options, len(tokenizer), seed=0).base_model
    delimiters = Delimiters.of(tokenizer)
    info = ModelInfo(
        delimiters=delimiters.to_dict(), max_x_tokens=24, max_y_tokens=40, temperature=20.0, embedding_dimension=32
    )
    folder = str(tmp_path_factory.mktemp("model"))
    save_model(Encoder(backbone, delimiters), tokenizer, info, folder, backbone.state_dict())
    return folder


@pytest.fixture
def publish(tmp_path: Path) -> Callable[..., str]:
    """Publishes tables as the parts of an artifact and gives its path."""

    def publish(name: str, *tables: pa.Table) -> str:
        path = str(tmp_path / name)
        rows = sum(table.num_rows for table in tables)
        with build(path, step=name, version=1, params={}) as work:
            for i, table in enumerate(tables):
                write_table(f"{work.path}/part-{i:05d}.parquet", table)
            work.publish(Ledger.of("rows", read=rows, kept=rows), rows=rows, schema=tables[0].schema)
        return path

    return publish
