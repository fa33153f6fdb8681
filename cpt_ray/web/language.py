"""Which language a text is in (langid's naive Bayes over byte n-grams, by py3langid)."""

from __future__ import annotations

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

SAMPLE = 1000
"""Characters that are looked at, from the middle of the text, where there is least boilerplate."""


def identify(text: str) -> tuple[str, float]:
    """(ISO 639-1 code, probability) of the most likely language; ("und", 0.0) for text without letters."""
    start = max(0, (len(text) - SAMPLE) // 2)
    sample = text[start : start + SAMPLE]
    if not any(map(str.isalpha, sample)):
        return "und", 0.0
    language, probability = _model().classify(sample)
    return str(language), float(probability)


@cache
def _model() -> LanguageIdentifier:
    # A model of our own: the package's global one would be changed by anybody's set_languages.
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
