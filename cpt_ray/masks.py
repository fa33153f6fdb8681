"""Personal data and secrets in a text: each becomes a word that stands for it, <email>, <phone>, <ip> or <secret>.

Forms are known, not meanings. A secret is

- `private_key`: a block of PEM or OpenPGP, from BEGIN to END, with its base64
- `token`: what its issuer gave a form of its own: AWS, Google, GitHub, GitLab, Slack, OpenAI and those that write theirs
  likewise, Stripe, Hugging Face, npm, PyPI, SendGrid, Azure Storage, JSON Web Tokens
- `password`: a random string in quotes that a name such as password, secret, token or api_key is given or compared with,
  and the password of a URL. Random is what has 8 characters or more, letters and digits, RANDOM_BITS of entropy a character
  and no words in it.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Collection
from typing import NamedTuple

RANDOM_BITS = 3.0
"""Shannon entropy a character, of the string's own letters: 2.9 of "password1", 3.2 of "Tr0ub4dor&3"."""
WORD_LETTERS = 3.5
"""Letters in a row, on the average, from which they are words: 5 in oauth2_access_token, 2 in base64."""


class Rule(NamedTuple):
    """What is masked: where `pattern` is found, its group `value` if it has one, if `holds` says so of it.

    Without one of `hints` in the text, in lower case, there is nothing to look for.
    """

    name: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = bool


def masked(text: str, kinds: Collection[str], *, spared: Collection[str] = ()) -> tuple[str, Counter[str]]:
    """The text with what is of these kinds masked, and how often by the rules' names; `spared` are values that stay."""
    count: Counter[str] = Counter()
    lower = text.lower()
    for kind, rules in RULES.items():
        if kind not in kinds:
            continue
        for rule in rules:
            if not rule.hints or any(hint in lower for hint in rule.hints):
                text = _without(rule, f"<{kind}>", text, spared, count)
    return text, count


def _without(rule: Rule, word: str, text: str, spared: Collection[str], count: Counter[str]) -> str:
    group = "value" if "value" in rule.pattern.groupindex else 0
    pieces, at = [], 0
    for found in rule.pattern.finditer(text):
        if found[group] in spared or not rule.holds(found[group]):
            continue
        pieces += [text[at : found.start(group)], word]
        at = found.end(group)
        count[rule.name] += 1
    return "".join([*pieces, text[at:]]) if pieces else text


def _is_public(text: str) -> bool:
    """Whether it is an address that others reach: not of a clock, a version, this machine or a network at home."""
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _is_no_number(text: str) -> bool:
    """Whether it is more than a plain number with a sign and a decimal point."""
    return re.fullmatch(r"\+\d+\.\d+", text) is None


_RUN_OF_LETTERS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _is_random(text: str) -> bool:
    runs = _RUN_OF_LETTERS.findall(text)
    if not runs or not re.search(r"\d", text) or sum(map(len, runs)) >= WORD_LETTERS * len(runs):
        return False
    shares = [n / len(text) for n in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares) >= RANDOM_BITS


def _is_key(text: str) -> bool:
    """Whether a key stands between BEGIN and END, and not the code that writes or looks for them."""
    return re.search(r"[A-Za-z0-9+/]{40}", text) is not None


_EMAIL = re.compile(
    r"(?<![\w.+%-])[^\W_][\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w@]|\.\w)"
)
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:]|\.\d)")
# In international form, or as North America writes them: a number alone may be anything.
_PHONE = re.compile(
    r"(?<![\w+./-])(?:\+[1-9](?:[ .()\u00a0-]{0,2}\d){6,14}|\([2-9]\d\d\)[ .-]?[2-9]\d\d[ .-]\d{4}"
    r"|[2-9]\d\d([.-])[2-9]\d\d\1\d{4})(?!\w|[.-]\d)"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----))*+-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:(?:[\s\"'`+]|\\[nr]){0,40}[A-Za-z0-9+/=]{40,100})+)"  # its end is cut off
)
_TOKEN = re.compile(
    r"""(?x)(?:(?<![A-Za-z0-9_/+-])|(?<=\\[nrt]))(?:  # a line's end may be written in front of it
      (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}                            # AWS, access key id
    | AIza[\w-]{35} | ya29\.[\w-]{20,} | GOCSPX-[\w-]{28}             # Google: API key, OAuth token, client secret
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_\w{82}
    | gl(?:pat|dt|rt|ptt|cbt|ft|soat)-[\w-]{20,}                     # GitLab
    | xox[a-z](?:\.[a-z]+)?-[\w-]{10,} | xapp-\d-[\w-]{10,}           # Slack
    | sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{20,}                       # OpenAI, Anthropic and their like
    | [rs]k_(?:live|test)_[A-Za-z0-9]{10,} | whsec_[A-Za-z0-9+/=]{24,} # Stripe
    | hf_[A-Za-z0-9]{34} | npm_[A-Za-z0-9]{36} | pypi-AgE[\w-]{50,}
    | SG\.[\w-]{16,32}\.[\w-]{16,64}                                 # SendGrid
    | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}                          # JSON Web Token, signed
    )(?![A-Za-z0-9])
    | https://hooks\.slack\.com/[\w/+-]{20,}                         # is a password by itself
    | (?<=AccountKey=)[A-Za-z0-9+/]{86}==                            # Azure Storage
    """
)
_PASSWORD = re.compile(
    r"(?i:pass(?:word|wd|phrase|code)|passwd|pwd|secret|token(?!i)|credential|api[_-]?key|(?:access|auth|account|private|client"
    r"|encryption|signing|service|app|db)[_-]?key)"
    r"\w{0,40}[\"'`\[\])}]{0,3}"
    r"(?:\s{0,8}:\s{0,8}[\w.?&*|<>\[\] ]{1,40}?)?"  # its type
    r"\s{0,8}(?:=>|:=|={1,3}|!==?|[:,(])\s{0,8}"
    r"[A-Za-z@$]{0,2}[\"'`](?P<value>[^\s\"'`<>{}]{8,200})[\"'`]"
)
_IN_URL = re.compile(r"://[^\s/:@\"'`<>{}$%]{0,64}:(?P<value>[^\s/@\"'`<>{}$]{3,100})@(?=[\w\[])")
_PLACEHOLDER = re.compile(r"(?i)pass\w*|my_?pass\w*|pwd?|secret|token|key|x+|\*+|\.+|%\w|\d{1,5}")

_BEGINNINGS = (
    *("akia", "asia", "abia", "acca", "aiza", "ya29.", "gocspx-", "hf_", "npm_", "pypi-", "sg.", "eyj"),
    *("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xox", "xapp-", "hooks.slack", "accountkey="),
    *("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glft-", "glsoat-", "sk-", "sk_", "rk_", "whsec_"),
)
"""Of tokens, in lower case."""

RULES: dict[str, tuple[Rule, ...]] = {
    "secret": (
        Rule("private_key", ("private key",), _PRIVATE_KEY, _is_key),
        Rule("token", _BEGINNINGS, _TOKEN),
        Rule("password", ("pass", "pwd", "secret", "token", "credential", "key"), _PASSWORD, _is_random),
        Rule("password", ("://",), _IN_URL, lambda text: _PLACEHOLDER.fullmatch(text) is None),
    ),
    "email": (Rule("email", ("@",), _EMAIL),),
    "ip": (Rule("ip", (), _IP, _is_public),),
    "phone": (Rule("phone", (), _PHONE, _is_no_number),),
}
"""By kind, in the order in which they are masked: what is in a secret is no address."""


def email_addresses(text: str) -> list[tuple[int, str]]:
    """The e-mail addresses of a text, each with the character it begins at."""
    return [(found.start(), found[0]) for found in _EMAIL.finditer(text)] if "@" in text else []
