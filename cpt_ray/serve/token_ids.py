"""Token ids of OpenAI's vocabularies, which clients made for its models send: they are read as the text that they spell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpt_ray.errors import UserError
from cpt_ray.serve.openai import Refused


def spelling(vocabulary: str) -> Callable[[Sequence[int]], str]:
    """What gives the text of ids of `vocabulary`, one of tiktoken's; it raises Refused for an id that is none of them.

    UserError where the vocabulary cannot be had."""
    try:
        import tiktoken

        encoding = tiktoken.get_encoding(vocabulary)
    except ImportError as error:
        raise UserError(
            "tiktoken is not installed", where=f"http.token_ids={vocabulary}", fix="pip install 'cpt-ray[serve]'"
        ) from error
    except (ValueError, OSError) as error:
        raise UserError(
            f"this vocabulary cannot be had: {str(error).partition(chr(10))[0][:300]}",
            where=f"http.token_ids={vocabulary}",
            fix="name one that tiktoken knows; without a network, give the folder of its file as TIKTOKEN_CACHE_DIR",
        ) from error

    def text(ids: Sequence[int]) -> str:
        try:
            return encoding.decode(list(ids))
        except (KeyError, OverflowError):
            raise Refused(400, f"a token id is not of {vocabulary}", "input") from None

    return text
