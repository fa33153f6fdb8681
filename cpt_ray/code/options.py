"""Options of mining."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.options import How, Options


class CloneOptions(Options):
    """How a repository is fetched that is given by its URL; nothing of it decides what comes out."""

    tries: How[int] = Field(3, ge=1, description="Times a fetch is tried that a server or the network lets down.")
    pause: How[float] = Field(
        1.0, ge=0, description="Seconds from one fetch of a host to the next, of all workers here."
    )
    timeout: How[float] = Field(600, gt=0, description="Seconds that one fetch may take.")
    max_bytes: How[int] = Field(4_000_000_000, gt=0, description="Bytes that one fetch may bring.")
    tokens: How[dict[str, str]] = Field(
        {},
        description="For a host, the environment variable with the token that is sent to it: {github.com: GITHUB_TOKEN}.",
    )
    github: How[str] = Field(
        "https://api.github.com",
        description="GitHub's API, which github:owner/name is looked up in if GITHUB_TOKEN (or what clone.tokens names for"
        " github.com) is set; of an Enterprise Server https://host/api/v3.",
    )
    allow_private: How[tuple[str, ...]] = Field(
        (), description="Networks that are not public and may be cloned from all the same, such as 10.1.0.0/16."
    )


class HistoryOptions(Options):
    """Which commits of a git repository tell what was changed in a function."""

    commits: int = Field(
        0,
        ge=0,
        description="Commits read, from the one mined back along first parents; 0: none, `message` stays empty.",
    )
    functions: int = Field(2, ge=1, description="A commit that changes more functions says nothing of one of them.")


class MineOptions(Options):
    """What is mined and what is left out."""

    languages: tuple[str, ...] = Field(
        ("python",), description="Languages to mine, of those in cpt_ray/code/grammars.py."
    )
    max_file_bytes: int = Field(1_000_000, gt=0, description="Larger files are data or generated; they are not read.")
    skip_tests: bool = Field(True, description="Leave out files in test folders and functions named as tests.")
    skip_generated: bool = Field(True, description="Leave out minified files and those whose header says generated.")
    skip_vendored: bool = Field(True, description="Leave out copies of other projects: node_modules, vendor, venv ...")
    min_words: int = Field(3, ge=1, description="Words a docstring's summary must have.")
    min_code_lines: int = Field(3, ge=1, description="Lines with text the code must have once its docstring is out.")
    max_code_chars: int = Field(50_000, gt=0, description="Characters the code may have.")
    max_docstring_chars: int = Field(20_000, gt=0, description="Characters the whole docstring may have.")

    mask: tuple[Literal["email", "secret"], ...] = Field(
        (),
        description="What is masked in docstrings and code: e-mail addresses, secrets (cpt_ray/masks.py says which).",
    )

    history: HistoryOptions = HistoryOptions()

    @field_validator("languages")
    @classmethod
    def _known(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [language for language in languages if language not in GRAMMARS]
        if unknown or not languages:
            raise ValueError(f"languages are some of {', '.join(GRAMMARS)}, not {unknown}")
        return languages
