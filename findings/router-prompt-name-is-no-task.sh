#!/usr/bin/env bash
# What: a two-sided sentence-transformers model asked for its "query" prompt answers with its *document* side.
# Versions: sentence-transformers 6.2.0, transformers 5.23.0, torch 2.13.0, Python 3.11.
# Expected: of a model with Router.for_query_document, encode(texts, prompt_name="query") is what encode_query gives, as it is
#   for every model of one side, and as the cards of many models ask for; or it is refused, as task="passage" is.
# Seen: the prompt's name chooses a prefix alone. Prompts "query" and "document" exist by themselves (both ""), so the name is
#   known, the default route takes the texts, and the query is embedded by the document tower. No warning.
# Why it matters: scripts that call encode(..., prompt_name="query") run on and search with document vectors of queries; where
#   the two towers are trained apart (as in cpt-text and cpt-code's two delimiters) recall falls to that of a wrong model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 sentence-transformers==6.2.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" -W ignore - "$work" <<'PYTHON' 2> "$work/err" || { tail -5 "$work/err"; exit 1; }
import string
import sys

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Router, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

print("sentence-transformers", sentence_transformers.__version__)


def tower(name):
    folder = f"{sys.argv[1]}/{name}"
    config = BertConfig(
        vocab_size=57, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    letters = [*string.ascii_lowercase, *("##" + letter for letter in string.ascii_lowercase)]
    with open(f"{folder}/vocab.txt", "w") as file:
        file.write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]))
    BertTokenizerFast(f"{folder}/vocab.txt").save_pretrained(folder)
    return [Transformer(folder), Pooling(16)]


torch.manual_seed(0)
model = SentenceTransformer(
    modules=[Router.for_query_document(query_modules=tower("query"), document_modules=tower("document"))], device="cpu"
)
texts = ["open a file"]
named = model.encode(texts, prompt_name="query", convert_to_tensor=True)
same = {
    "encode_query": torch.allclose(named, model.encode_query(texts, convert_to_tensor=True)),
    "encode_document": torch.allclose(named, model.encode_document(texts, convert_to_tensor=True)),
    "encode(task='query')": torch.allclose(named, model.encode(texts, task="query", convert_to_tensor=True)),
}
print("prompts of the model:", model.prompts)
print("encode(prompt_name='query') equals:", same)
try:
    model.encode(texts, prompt_name="passage")
    known = True
except ValueError as error:
    known = False
    print("prompt_name='passage':", str(error)[:90])
assert same == {"encode_query": False, "encode_document": True, "encode(task='query')": False}, same
assert model.prompts == {"query": "", "document": ""} and not known
PYTHON
echo "as stated"
