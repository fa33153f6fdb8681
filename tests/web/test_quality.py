"""Quality rules and languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cpt_ray.web.language import _model, identify
from cpt_ray.web.options import LANGUAGES, ExtractOptions, QualityOptions
from cpt_ray.web.quality import quality

PROSE = "\n".join(f"Sentence number {i} says something that no other sentence here has said before." for i in range(10))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("only a few words", "too_short"),
        ("word " * 300_000, "too_long"),
        ("a b c d e " * 20, "word_length"),
        ("supercalifragilisticexpialidocious " * 40, "word_length"),
        ("# word word\n" * 5 + "## ## ## " * 10 + PROSE[:300], "symbols"),
        ("1234 5678 9012 word " * 20, "not_words"),
        ("\n".join(f"- item number {i} of the list" for i in range(20)), "bullets"),
        (
            "\n".join(f"line {i} of this text is here and ends with more words to come then..." for i in range(20)),
            "ellipses",
        ),
        (PROSE + "\n" + ("the very same line again and again\n" * 60), "repeated_lines"),
    ],
)
def test_each_rule(text: str, reason: str | None) -> None:
    """Each rule drops what it is for, by its name, and ordinary prose passes."""
    assert quality(text, QualityOptions()).reason == reason


@given(st.text(max_size=300))
def test_any_text_can_be_judged(text: str) -> None:
    """The score is a share, and the rules never fail."""
    judged = quality(text, QualityOptions(min_words=0))
    assert 0.0 <= judged.score <= 1.0


def test_prose_scores_above_a_table_of_numbers() -> None:
    """The survivor rule prefers what reads like text."""
    table = "\n".join(f"{i} {i * 7} total {i}.{i}" for i in range(60))
    options = QualityOptions(min_alphabetic=0, min_word_length=0)
    assert quality(PROSE, options).score > quality(table, options).score + 0.3


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("This is a plain English sentence about nothing in particular.", "en"),
        ("Dies ist ein ganz gewöhnlicher deutscher Satz über gar nichts.", "de"),
        ("Ceci est une phrase française tout à fait ordinaire.", "fr"),
        ("これは日本語の普通の文章です。", "ja"),
        ("12345 !!! ---", "und"),
        ("", "und"),
    ],
)
def test_languages(text: str, language: str) -> None:
    """Told apart from a sentence; nothing is made up where there are no letters."""
    found, certainty = identify(text)
    assert found == language
    assert 0.0 <= certainty <= 1.0


def test_every_code_is_one_of_the_model() -> None:
    """What options accept is what the model can say."""
    assert {str(code) for code in _model().nb_classes} == LANGUAGES
    assert ExtractOptions(languages=("EN", " de")).languages == ("en", "de")


@pytest.mark.parametrize("code", ["eng", "english", "xx", "zh-Hans", ""])
def test_a_language_that_is_none_is_refused(code: str) -> None:
    """A run that would drop everything does not start."""
    with pytest.raises(ValidationError, match="no language code"):
        ExtractOptions(languages=(code,))


SENTENCES = {
    "zh": "春天来了，河边的柳树发了芽，孩子们在草地上放风筝，这是第{}段。",
    "ja": "港の壁は灰色の石で造られていて、毎朝{}隻の船がその前を通り過ぎていく。",
    "th": "กำแพงท่าเรือสร้างด้วยหินสีเทา และทุกเช้าเรือ {} ลำจะออกไปก่อนฟ้าสาง",
    "my": "ဆိပ်ကမ်းနံရံကို မီးခိုးရောင်ကျောက်တုံးဖြင့် တည်ဆောက်ထားသည် {}။",
    "km": "ជញ្ជាំងកំពង់ផែត្រូវបានសាងសង់ពីថ្មពណ៌ប្រផេះ {}។",
    "lo": "ກໍາແພງທ່າເຮືອສ້າງດ້ວຍຫີນສີເທົາ ແລະທຸກໆເຊົ້າເຮືອ {} ລໍາຈະອອກໄປ",
    "ko": "항구의 벽은 회색 돌로 지어졌고 아침마다 배 {}척이 그 앞을 지나간다.",
    "hi": "बंदरगाह की दीवार धूसर पत्थर से बनी थी और हर सुबह {} नावें उसके आगे से जाती थीं।",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_pages_of_any_script_pass(language: str) -> None:
    """Ordinary paragraphs keep the rules, with or without spaces between words; a single short line is too short."""
    text = "\n\n".join(SENTENCES[language].format(i) for i in range(40))
    assert quality(text, QualityOptions()).reason is None
    assert quality(SENTENCES[language][:12], QualityOptions()).reason == "too_short"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("这是一样的一行。\n" * 60, "repeated_lines"),
        ("1234 5678 " * 40 + "价格表", "not_words"),
        ("\n".join(f"・ 第{i}项说明这里的内容是什么意思。" for i in range(40)), "bullets"),
        ("\n".join(f"第{i}行的内容到这里就没有了，后面请看原文……" for i in range(40)), "ellipses"),
    ],
)
def test_rules_still_drop_in_scripts_without_spaces(text: str, reason: str) -> None:
    """No rule is switched off by a script."""
    assert quality(text, QualityOptions()).reason == reason
