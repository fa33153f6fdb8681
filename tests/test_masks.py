"""What is personal or secret, and what merely looks like it. Secrets are put together here, so that no scanner finds one."""

from __future__ import annotations

import pytest

from cpt_ray.masks import masked

RANDOM = "x7Qf92LmZp4Kc8VdR1sT"
BODY = "\n".join(["MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"] * 3)

SECRETS = {
    "AWS": ("token", f'key = "{"AKIA" + "IOSFODNN7EXAMPLE"}"', 'key = "<secret>"'),
    "Google": ("token", f"?key={'AIza' + 'Sy' + RANDOM[:13] + RANDOM}&x=1", "?key=<secret>&x=1"),
    "GitHub": ("token", f"curl -H {'ghp_' + 'a1B2' * 9} x", "curl -H <secret> x"),
    "GitHub, fine-grained": ("token", f"'{'github_pat_' + 'a1' * 41}'", "'<secret>'"),
    "GitLab": ("token", f"'{'glpat-' + RANDOM}'", "'<secret>'"),
    "Slack": ("token", f"'{'xoxb-' + '123456789012-' + RANDOM}'", "'<secret>'"),
    "Slack, webhook": ("token", f"https://hooks.slack.com/services/T000/B000/{RANDOM} x", "<secret> x"),
    "OpenAI": ("token", f"'{'sk-' + 'proj-' + RANDOM * 2}'", "'<secret>'"),
    "behind a written line end": ("token", "'x\\n" + "ghp_" + "a1B2" * 9 + "'", "'x\\n<secret>'"),
    "Stripe": ("token", f"'{'sk_' + 'live_' + RANDOM}'", "'<secret>'"),
    "Hugging Face": ("token", f"'{'hf_' + 'aBcDe' * 6 + 'aBcD'}'", "'<secret>'"),
    "a signed web token": ("token", f"x={'eyJ' + RANDOM}.{'eyJ' + RANDOM}.{RANDOM}", "x=<secret>"),
    "PEM": (
        "private_key",
        f"k = '''\n-----BEGIN RSA PRIVATE KEY-----\n{BODY}\n-----END RSA PRIVATE KEY-----\n'''",
        "k = '''\n<secret>\n'''",
    ),
    "PEM in pieces": (
        "private_key",
        f'("-----BEGIN PRIVATE KEY-----\\n" "{BODY[:64]}\\n" "-----END PRIVATE KEY-----")',
        '("<secret>")',
    ),
    "PEM without its end": ("private_key", f"'-----BEGIN EC PRIVATE KEY-----\n{BODY}'", "'<secret>'"),
    "assigned": ("password", f'db_password = "{RANDOM}"', 'db_password = "<secret>"'),
    "with a type": (
        "password",
        f'let apiKey: Option<String> = "{RANDOM}";',
        'let apiKey: Option<String> = "<secret>";',
    ),
    "declared": ("password", f'const char secret[] = "{RANDOM}";', 'const char secret[] = "<secret>";'),
    "a key of a dictionary": ("password", f"{{'client_secret': '{RANDOM}'}}", "{'client_secret': '<secret>'}"),
    "an element": ("password", f'os.environ["API_KEY"] = "{RANDOM}"', 'os.environ["API_KEY"] = "<secret>"'),
    "an arrow": ("password", f"'password' => '{RANDOM}'", "'password' => '<secret>'"),
    "Go": ("password", f"token := `{RANDOM}`", "token := `<secret>`"),
    "an argument": ("password", f'login(user="me", password="{RANDOM}")', 'login(user="me", password="<secret>")'),
    "a setter": ("password", f'setPassword("{RANDOM}")', 'setPassword("<secret>")'),
    "a constant": ("password", f"define('DB_PASSWORD', '{RANDOM}');", "define('DB_PASSWORD', '<secret>');"),
    "compared": ("password", f'if (token === "{RANDOM}")', 'if (token === "<secret>")'),
    "short and mixed": ("password", 'pwd = "Tr0ub4dor&3"', 'pwd = "<secret>"'),
    "in a URL": ("password", "postgres://me:hunter2@db.internal/x", "postgres://me:<secret>@db.internal/x"),
}


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_masked_and_counted_by_what_they_are(name: str) -> None:
    kind, text, expected = SECRETS[name]
    assert masked(text, ("secret",)) == (expected, {kind: 1})
    assert masked(expected, ("secret",)) == (expected, {})
    assert masked(text, ()) == (text, {})


@pytest.mark.parametrize(
    "text",
    [
        'password = "correct horse battery staple"',
        'password = "password1"',
        'password = input("Password 12345678: ")',
        'token_url = "https://example.org/oauth2/token"',
        'grant = {"token_type": "urn:ietf:params:oauth:token-type:jwt"}',
        'scope_token = "oauth2_access_token"',
        'tokenizer = "x7Qf92LmZp4Kc8VdR1sT"',
        'api_key = "${API_KEY_2_x7Qf92LmZp}"',
        'key = "<your key x7Qf92LmZp4>"',
        'secret = os.environ["SECRET_X7Qf92LmZp4"]',
        'if line == "-----BEGIN PRIVATE KEY-----": raise ValueError',
        '"-----BEGIN PRIVATE KEY-----\\n" + base64.encode(key) + "\\n-----END PRIVATE KEY-----"',
        'css = "sk-container-id-1 sk-parallel-item-wrapper"',
        "http://localhost:8080/path@x and http://user:password@host/ and http://[::1]:80/",
        "pass_through = 'sha256:abcdef'",
        "AKIA is a prefix",
        "hashes = ['d41d8cd98f00b204e9800998ecf8427e']",
    ],
)
def test_what_merely_looks_like_a_secret_stays(text: str) -> None:
    assert masked(text, ("secret",)) == (text, {})


def test_kinds_are_masked_together_and_secrets_first() -> None:
    text = "mongodb://me:s3cr3tPw@db.example.org mail jane@example.org"
    assert masked(text, ("email", "secret")) == (
        "mongodb://me:<secret>@db.example.org mail <email>",
        {"password": 1, "email": 1},
    )
    assert masked(text, ("email",), spared={"jane@example.org"})[0].endswith("mail jane@example.org")


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----" * 4000,
        "-----BEGIN PRIVATE KEY-----" + "-" * 100_000,
        "password" * 10_000,
        "password : " + "a" * 100_000,
        "password" + " " * 100_000 + "= 'x'",
        "password='" + "a1" * 50_000,
        "://" + "a:" * 50_000,
        "eyJ" + "a" * 50_000 + ".eyJ" * 10_000,
        "a@" * 50_000,
        "sk-" * 30_000,
    ],
    ids=lambda text: text[:24],
)
def test_hostile_text_takes_time_in_proportion(text: str) -> None:
    """Else this does not end."""
    masked(text, ("email", "secret"))
