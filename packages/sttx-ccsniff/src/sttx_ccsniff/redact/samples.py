"""Made-up secrets of every kind, for measuring what a redactor misses. Random at run time, written nowhere.

Each kind's form is given here once more, apart from the rules, so that a rule and its sample can disagree.
In a form, `{n:alphabet}` stands for n random characters.
"""

import base64
import random
import re
import string
from dataclasses import dataclass

_ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "l": string.ascii_letters,
    "u": string.ascii_uppercase + string.digits,
    "w": string.ascii_lowercase + string.digits,
    "d": string.digits,
    "h": "0123456789abcdef",
    "s": string.ascii_letters + string.digits + "-_",
    "b": string.ascii_letters + string.digits + "+/",
    "2": string.ascii_uppercase + "234567",
    "z": "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L",
}
_FIELD = re.compile(r"\{(\d+):(\w)\}")

# Kind: the text as it would stand somewhere; what stands between « and » is the secret, by default all.
FORMS: dict[str, str] = {
    "anthropic-key": "sk-ant-api03-{93:s}AA",
    "openai-key": "sk-proj-{74:s}T3BlbkFJ{74:s}",
    "openrouter-key": "sk-or-v1-{64:h}",
    "sk-key": "sk-{20:a}T3BlbkFJ{20:a}",
    "groq-key": "gsk_{52:a}",
    "xai-key": "xai-{80:a}",
    "perplexity-key": "pplx-{48:a}",
    "replicate-token": "r8_{37:a}",
    "hugging-face-token": "hf_{34:l}",
    "nvidia-key": "nvapi-{64:s}",
    "cerebras-key": "csk-{48:w}",
    "langsmith-key": "lsv2_pt_{32:h}_{10:h}",
    "tavily-key": "tvly-dev-{32:a}",
    "github-token": "ghp_{36:a}",
    "github-fine-grained-token": "github_pat_{22:a}_{59:a}",
    "gitlab-token": "glpat-{20:s}",
    "npm-token": "npm_{36:a}",
    "pypi-token": "pypi-AgEIcHlwaS5vcmc{100:s}",
    "rubygems-key": "rubygems_{48:h}",
    "crates-io-token": "cio{32:a}",
    "docker-hub-token": "dckr_pat_{27:s}",
    "aws-access-key-id": "AKIA{16:2}",
    "google-api-key": "AIza{35:s}",
    "google-oauth-secret": "GOCSPX-{28:s}",
    "google-oauth-token": "ya29.a0{120:s}",
    "digitalocean-token": "dop_v1_{64:h}",
    "databricks-token": "dapi{32:h}",
    "vercel-token": "vcp_{56:a}",
    "vercel-blob-token": "vercel_blob_rw_{16:a}_{30:a}",
    "netlify-token": "nfp_{36:a}",
    "heroku-key": "HRKU-AA{58:s}",
    "fly-token": "fm2_{120:b}",
    "cloudflare-token": "cfut_{48:a}",
    "cloudflare-origin-key": "v1.0-{24:h}-{146:h}",
    "supabase-token": "sbp_{40:h}",
    "neon-key": "napi_{64:w}",
    "planetscale-token": "pscale_tkn_{43:s}",
    "render-key": "rnd_{32:a}",
    "doppler-token": "dp.st.dev_api.{43:a}",
    "vault-token": "hvs.{95:s}",
    "pulumi-token": "pul-{40:h}",
    "terraform-token": "{14:a}.«atlasv1.{67:a}»",
    "grafana-token": "glsa_{32:a}_{8:h}",
    "grafana-cloud-token": "glc_eyJ{100:b}",
    "new-relic-key": "NRAK-{27:u}",
    "sentry-token": "sntryu_{64:h}",
    "postman-key": "PMAK-{24:h}-{34:h}",
    "dynatrace-token": "dt0c01.{24:2}.{64:2}",
    "posthog-key": "phx_{43:a}",
    "stripe-key": "sk_live_{24:a}",
    "webhook-secret": "whsec_{32:a}",
    "shopify-token": "shpat_{32:h}",
    "square-token": "EAAA{60:s}",
    "square-oauth-secret": "sq0csp-{43:s}",
    "slack-token": "xoxb-{12:d}-{13:d}-{24:a}",
    "slack-app-token": "xapp-1-A{10:u}-{13:d}-{64:h}",
    "discord-token": "MT{24:a}.G{5:s}.{38:s}",
    "twilio-key": "SK{32:h}",
    "sendgrid-key": "SG.{22:s}.{43:s}",
    "mailgun-key": "key-{32:h}",
    "brevo-key": "xkeysib-{64:h}-{16:a}",
    "resend-key": "re_{8:a}_{24:a}",
    "linear-key": "lin_api_{40:a}",
    "notion-token": "ntn_{46:a}",
    "figma-token": "figd_{40:s}",
    "atlassian-token": "ATATT3xFfGF0{180:s}",
    "bitbucket-password": "ATBB{32:a}",
    "airtable-token": "pat{14:a}.{64:h}",
    "age-secret-key": "AGE-SECRET-KEY-1{58:z}",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJ{60:a}.{43:s}",
    "slack-webhook": "https://hooks.slack.com/«services/T{10:u}/B{10:u}/{24:a}»",
    "discord-webhook": "https://discord.com/api/webhooks/«{18:d}/{68:s}»",
    "telegram-token": "{8:d}:AA{33:s}",
    "mailchimp-key": "{32:h}-us12",
    "azure-key": "DefaultEndpointsProtocol=https;AccountName=store;AccountKey=«{86:b}==»;",
    "azure-sas": "https://store.blob.core.windows.net/c/f?sv=2024-11-04&sp=r&sig=«{43:a}%3D»",
    "azure-client-secret": "{3:a}{1:d}Q~{31:a}",
    "aws-secret-key": "aws_secret_access_key = «{40:b}»",
    "connection-password": "postgres://app:«{14:a}»@db.internal:5432/app",
    "url-token": "https://«{40:a}»@git.internal/x.git",
    "bearer": "Authorization: Bearer «{40:a}»",
    "curl-user": "curl -u deploy:«{9:a}{2:d}» https://db.internal",
    "assignment": "export SERVICE_PASSWORD=«{12:a}{2:d}»\n",
    "email": "ada.{12:w}@lovelace.org",
}
"""How each kind looks, by the name of the rule that should find it."""

KINDS = (*FORMS, "private-key", "basic-auth")


@dataclass(frozen=True, slots=True)
class Sample:
    """A secret, and a text that it stands in."""

    kind: str
    text: str
    secret: str


def sample(kind: str, dice: random.Random) -> Sample:
    """Make one secret of a kind.

    >>> made = sample("aws-access-key-id", random.Random(1))
    >>> made.text == made.secret, len(made.secret), made.secret[:4]
    (True, 20, 'AKIA')
    """
    if kind == "private-key":
        lines = [_random(64, "b", dice) for _ in range(8)]
        secret = "\n".join([f"-----BEGIN {'PRIVATE'} KEY-----", *lines, f"-----END {'PRIVATE'} KEY-----"])
        return Sample(kind, secret + "\n", secret)
    if kind == "basic-auth":
        secret = base64.b64encode(f"deploy:{_random(12, 'a', dice)}".encode()).decode()
        return Sample(kind, f"Authorization: Basic {secret}", secret)
    text = _FIELD.sub(lambda field: _random(int(field[1]), field[2], dice), FORMS[kind])
    before, marked, rest = text.partition("«")
    if not marked:
        return Sample(kind, text, text)
    secret, _, after = rest.partition("»")
    return Sample(kind, before + secret + after, secret)


def near_miss(made: Sample) -> str:
    """Return a text of nearly the same form that holds no secret: one such character again and again.

    >>> near_miss(Sample("x", "key=ab-12", "ab-12"))
    'key=xx-xx'
    """
    if made.kind == "email":
        return "git@github.com"
    head = re.match(r"[A-Za-z0-9]{1,12}[-_.]", made.secret) if made.text == made.secret else None
    keep = head.end() if head else 0
    return made.text.replace(
        made.secret, made.secret[:keep] + re.sub(r"[A-Za-z0-9]", "x", made.secret[keep:])
    )


def _random(count: int, alphabet: str, dice: random.Random) -> str:
    """Draw characters; the first and last are letters or digits, as no vendor ends a token in a hyphen."""
    drawn = [dice.choice(_ALPHABETS[alphabet]) for _ in range(count)]
    for place in {0, count - 1}:
        while not drawn[place].isalnum():
            drawn[place] = dice.choice(_ALPHABETS[alphabet])
    return "".join(drawn)
