"""The tokenizer: one token for a word wherever it stands, every character kept, the same tokenizer from the same texts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.options import TokenizerOptions
from cpt_ray.model.tokenizer import END_OF_TEXT, encode, train_tokenizer

TEXTS = [
    "Parse the HTTP date and return a datetime object.",
    "def parse_http_date(value: str) -> datetime:\n    return HTTPDateParser(value).parse()\n",
    "class DateParser:\n    MAX_LENGTH = 128\n\n    def parse(self):\n        return self.parser.dates[0]\n",
    "HTTP_DATE = {'date': [1, 2, 3]}",
] * 5
OPTIONS = TokenizerOptions(vocabulary=400)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, OPTIONS)


def decoded(tokenizer: PreTrainedTokenizerFast, text: str) -> str:
    return tokenizer.decode(encode(tokenizer, [text], 10**6)[0])


@pytest.mark.parametrize(
    "form", ["parse the http date", "parse_http_date", "ParseHttpDate", "parseHTTPDate", "PARSE_HTTP_DATE"]
)
def test_a_word_has_one_token_in_prose_snake_case_camel_case_and_capitals(
    tokenizer: PreTrainedTokenizerFast, form: str
) -> None:
    """The point of this tokenizer: whatever case and separator, the ids of `parse`, `http` and `date` are there, in order."""
    words = [encode(tokenizer, [word], 9) for word in ("parse", "http", "date")]
    assert all(len(ids) == 1 for [ids] in words)
    wanted = [ids[0] for [ids] in words]
    assert [token for token in encode(tokenizer, [form], 99)[0] if token in wanted] == wanted


def test_decoding_gives_back_every_character(tokenizer: PreTrainedTokenizerFast) -> None:
    """Random strings over case changes, spaces, marks and their escapes, several scripts and what looks like a special token."""
    alphabet = [*"aabcABCzZ _\n\t.1", "é", "É", "ß", "İ", "中", "🙂", "e\u0301", "\x00", "\r\n", END_OF_TEXT]
    alphabet += [chr(code) for code in range(0xE000, 0xE007)]
    draw = random.Random(0)
    for _ in range(2000):
        text = "".join(draw.choices(alphabet, k=draw.randint(0, 14)))
        assert decoded(tokenizer, text) == text


def test_decoding_gives_back_real_source(tokenizer: PreTrainedTokenizerFast) -> None:
    """A module of the standard library and this file, to the character."""
    for path in (Path(random.__file__), Path(__file__)):
        text = path.read_text(encoding="utf-8")
        assert decoded(tokenizer, text) == text


def test_the_four_delimiters_are_single_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    """`[` `]` `{` `}` are tokens of their own, as a text they are these ids, and no merge takes them out of the vocabulary."""
    delimiters = Delimiters.of(tokenizer)
    assert encode(tokenizer, ["[", "]", "{", "}"], 9) == [[token] for token in (*delimiters.x, *delimiters.y)]


def test_a_special_token_written_in_a_text_is_plain_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """A page that says `<|endoftext|>` must not end the text for the model."""
    [ids] = encode(tokenizer, [f"a {END_OF_TEXT} b"], 99)
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == tokenizer.convert_tokens_to_ids(END_OF_TEXT)


def test_encode_cuts_at_the_number_of_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """The first ids of the whole text, for each text on its own; an empty text has none."""
    whole = encode(tokenizer, TEXTS[:2], 10**6)
    assert encode(tokenizer, [*TEXTS[:2], ""], 5) == [whole[0][:5], whole[1][:5], []]


def test_saved_and_loaded_it_is_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """The standard folder: AutoTokenizer reads it without our code and gives the same ids and the same text back."""
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f"def parseHTTPDate(MAX): return {END_OF_TEXT!r} \ue000"
    [ids] = encode(tokenizer, [text], 999)
    assert loaded(text, add_special_tokens=False)["input_ids"] == ids
    assert encode(loaded, [text], 999) == [ids]
    assert loaded.decode(ids) == text
    assert (loaded.eos_token, loaded.pad_token) == (END_OF_TEXT, END_OF_TEXT)


def test_training_does_not_depend_on_the_order_of_the_texts(tokenizer: PreTrainedTokenizerFast) -> None:
    """A function of the multiset of texts."""
    shuffled = train_tokenizer(random.Random(1).sample(TEXTS, len(TEXTS)), OPTIONS)
    assert shuffled.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_training_does_not_depend_on_threads_or_hash_randomisation(tokenizer: PreTrainedTokenizerFast) -> None:
    """Fresh processes with other numbers of threads and other hash seeds train the same tokenizer, byte for byte."""
    program = (
        "import sys; from tests_texts import TEXTS; from cpt_ray.model.tokenizer import TokenizerOptions, train_tokenizer;"
        "sys.stdout.write(train_tokenizer(TEXTS, TokenizerOptions(vocabulary=400)).backend_tokenizer.to_str())"
    ).replace("from tests_texts import TEXTS", f"TEXTS = {TEXTS!r}")
    for threads, seed in (("1", "1"), ("4", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"}
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
        assert run.stdout.decode() == tokenizer.backend_tokenizer.to_str()


def test_the_vocabulary_is_at_most_what_was_asked_for(tokenizer: PreTrainedTokenizerFast) -> None:
    """All bytes are in it, so no text is unknown; a small corpus gives fewer ids."""
    assert 257 < len(tokenizer) <= 400
    assert len(train_tokenizer(["ab"], OPTIONS)) == 257


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_an_error_that_says_so(texts: list[str]) -> None:
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(texts, OPTIONS)


def test_a_vocabulary_without_room_for_all_bytes_is_refused() -> None:
    with pytest.raises(ValidationError):
        TokenizerOptions(vocabulary=256)
