"""Random made-up secrets of every kind, to measure what a redactor misses. They are never written to disk.

The forms repeat those of the rules on purpose, so that a wrong rule does not match its own sample. In a form,
`{n:alphabet}` stands for n random characters.
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

# Kind: a text that holds the secret, marked by « and » if it is not the whole text.
FORMS: dict[str, str | tuple[str, ...]] = {
    "anthropic-key": ("sk-ant-api03-{93:s}AA", "sk-ant-admin01-{93:s}AA", "sk-ant-oat01-{93:s}AA"),
    "openai-key": ("sk-proj-{74:s}T3BlbkFJ{74:s}", "sk-svcacct-{58:s}T3BlbkFJ{58:s}"),
    "openrouter-key": "sk-or-v1-{64:h}",
    "sk-key": ("sk-{20:a}T3BlbkFJ{20:a}", "sk-{32:h}"),
    "groq-key": "gsk_{52:a}",
    "xai-key": "xai-{80:a}",
    "perplexity-key": "pplx-{48:a}",
    "replicate-token": "r8_{37:s}",
    "hugging-face-token": "hf_{34:l}",
    "nvidia-key": "nvapi-{64:s}",
    "cerebras-key": "csk-{48:w}",
    "langsmith-key": "lsv2_pt_{32:h}_{10:h}",
    "tavily-key": ("tvly-{32:a}", "tvly-dev-{32:a}", "tvly-dev-{6:a}-{42:a}"),
    "gemini-key": "AQ.Ab8RN6{44:s}",
    "bedrock-key": "ABSK{128:b}=",
    "together-key": "tgp_v1_{43:s}",
    "pinecone-key": "pcsk_{6:a}_{63:a}",
    "wandb-key": "wandb_v1_{27:a}_{49:a}",
    "elevenlabs-key": "sk_{48:h}",
    "langfuse-key": "sk-lf-{8:h}-{4:h}-{4:h}-{4:h}-{12:h}",
    "runpod-key": "rpa_{40:u}{6:a}",
    "cursor-key": "crsr_{64:a}",
    "github-token": ("ghp_{36:a}", "ghs_{7:d}_eyJ{60:a}.eyJ{240:a}.{86:s}"),
    "github-fine-grained-token": "github_pat_{22:a}_{59:a}",
    "gitlab-token": ("glpat-{20:s}", "glpat-{32:s}.01.{9:w}", "GR1348941{20:s}", "glptt-{40:h}"),
    "npm-token": "npm_{36:a}",
    "pypi-token": "pypi-AgEIcHlwaS5vcmc{100:s}",
    "rubygems-key": "rubygems_{48:h}",
    "crates-io-token": "cio{32:a}",
    "docker-hub-token": "dckr_pat_{27:s}",
    "nuget-key": "oy2{43:w}",
    "artifactory-token": ("AKCp{69:a}", "cmVmd{59:a}"),
    "clojars-token": "CLOJARS_{60:w}",
    "circleci-token": "CCIPAT_{22:a}_{40:w}",
    "buildkite-token": "bkua_{40:w}",
    "sonar-token": "squ_{40:h}",
    "sourcegraph-token": ("sgp_{40:h}", "sgp_{16:h}_{40:h}", "sgp_{64:a}"),
    "aws-access-key-id": "AKIA{16:2}",
    "google-api-key": "AIza{35:s}",
    "google-oauth-secret": "GOCSPX-{28:s}",
    "google-oauth-token": "ya29.a0{120:s}",
    "digitalocean-token": "dop_v1_{64:h}",
    "databricks-token": "dapi{32:h}",
    "vercel-token": "vcp_{50:s}{6:a}",
    "vercel-blob-token": "vercel_blob_rw_{16:a}_{30:a}",
    "netlify-token": "nfp_{36:a}",
    "heroku-key": "HRKU-AA{58:s}",
    "fly-token": "fm2_{120:b}",
    "cloudflare-token": "cfut_{40:a}{8:h}",
    "cloudflare-origin-key": "v1.0-{24:h}-{146:h}",
    "supabase-token": ("sbp_{40:h}", "sb_secret_{31:s}"),
    "neon-key": "napi_{64:a}",
    "planetscale-token": "pscale_tkn_{43:s}",
    "render-key": "rnd_{28:a}",
    "doppler-token": "dp.st.dev_api.{43:a}",
    "vault-token": "hvs.{95:s}",
    "pulumi-token": "pul-{40:h}",
    "terraform-token": "{14:a}.«atlasv1.{67:a}»",
    "deno-token": "ddp_{36:a}",
    "mongodb-atlas-secret": "mdb_sa_sk_{40:s}",
    "cockroach-key": "CCDB1_{22:a}_{40:a}",
    "tailscale-key": "tskey-auth-k{16:a}-{32:a}",
    "alibaba-access-key-id": "LTAI{20:a}",
    "openshift-token": "sha256~{43:s}",
    "octopus-key": "API-{26:u}",
    "prefect-key": "pnu_{36:a}",
    "harness-token": "pat.{22:s}.{24:h}.{20:a}",
    "infracost-key": "ico-{32:a}",
    "onepassword-token": "ops_eyJ{300:b}=",
    "onepassword-secret-key": ("A3-{6:u}-{6:u}-{5:u}-{5:u}-{5:u}-{5:u}", "A3-{6:u}-{11:u}-{5:u}-{5:u}-{5:u}"),
    "grafana-token": "glsa_{32:a}_{8:h}",
    "grafana-cloud-token": "glc_eyJ{100:b}",
    "grafana-key": "eyJrIjoi{88:a}==",
    "new-relic-key": ("NRAK-{27:u}", "NRJS-{19:h}"),
    "sentry-token": ("sntryu_{64:h}", "sntrys_eyJpYXQiO{120:b}=_{43:b}"),
    "postman-key": "PMAK-{24:h}-{34:h}",
    "dynatrace-token": "dt0c01.{24:2}.{64:2}",
    "posthog-key": ("phx_{43:a}", "pha_{40:a}"),
    "stripe-key": ("sk_live_{24:a}", "rk_test_{99:a}"),
    "webhook-secret": "whsec_{32:a}",
    "shopify-token": "shpat_{32:h}",
    "square-token": "EAAA{60:s}",
    "square-oauth-secret": ("sq0csp-{43:s}", "sq0atp-{22:s}"),
    "flutterwave-key": "FLWSECK_TEST-{32:h}-X",
    "easypost-key": "EZAK{54:a}",
    "shippo-token": "shippo_live_{40:h}",
    "paddle-key": "pdl_live_apikey_{26:w}_{22:a}_{3:a}",
    "slack-token": ("xoxb-{12:d}-{13:d}-{24:a}", "xoxe.xoxp-1-{166:a}", "xoxe-1-{146:a}"),
    "slack-app-token": "xapp-1-A{10:u}-{13:d}-{64:h}",
    "discord-token": "MT{24:a}.G{5:s}.{38:s}",
    "twilio-key": "SK{32:h}",
    "sendgrid-key": "SG.{22:s}.{43:s}",
    "mailgun-key": "key-{32:h}",
    "brevo-key": ("xkeysib-{64:h}-{16:a}", "xsmtpsib-{64:h}-{16:a}"),
    "resend-key": "re_{8:a}_{24:a}",
    "facebook-token": "EAAC{160:a}",
    "twitter-bearer": "AAAAAAAAAAAAAAAAAAAAAA«{26:a}%2B{20:a}%3D{40:a}»",
    "linear-key": "lin_api_{40:a}",
    "notion-token": ("ntn_{11:d}{35:a}", "secret_{43:a}"),
    "figma-token": "figd_{40:s}",
    "atlassian-token": ("ATATT3xFfGF0{180:s}", "ATCTT3xFfGN0{180:s}={8:h}"),
    "bitbucket-password": "ATBB{32:a}",
    "hubspot-token": "pat-na1-{8:h}-{4:h}-{4:h}-{4:h}-{12:h}",
    "contentful-token": "CFPAT-{43:s}",
    "typeform-token": "tfp_{59:s}",
    "readme-key": "rdme_{70:w}",
    "frameio-token": "fio-u-{64:s}",
    "apify-token": "apify_api_{36:a}",
    "mapbox-token": "sk.eyJ{60:a}.{22:s}",
    "dropbox-token": "sl.{135:s}",
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
    "azure-service-key": "{52:a}JQQJ99BFACYeBjFXJ3w3AAA{11:a}",
    "aws-secret-key": "aws_secret_access_key = «{40:b}»",
    "connection-password": "postgres://app:«{14:a}»@db.internal:5432/app",
    "url-token": "https://«{40:a}»@git.internal/x.git",
    "bearer": "Authorization: Bearer «{40:a}»",
    "command-line": (
        "curl -u deploy:«{9:a}{2:d}» https://db.internal",
        "mysqldump -u app -p«{9:a}${2:d}» main",
        "docker login -u ci -p «{9:a}{2:d}({3:a}» registry.internal",
    ),
    "authorization": "Authorization: ApiKey «{9:a}{2:d}{9:a}»",
    "cookie": "Cookie: theme=dark; sid=«{30:a}»",
    "session-cookie": "curl https://db.internal/?PHPSESSID=«{26:w}»",
    "password-hash": ("root:«$6${8:a}${86:a}»:19000:0", "ci:«$apr1${8:a}${22:a}»", "«$2b$12${53:a}»"),
    "framework-hash": "pbkdf2_sha256$«600000${22:a}${43:b}»=",
    "ldap-hash": "ada:{SSHA}«{32:b}»",
    "piped-password": "echo «{9:a}{2:d}» | docker login --password-stdin",
    "spoken-password": "use '«{9:a}{2:d}»' as the password",
    "pgpass-line": "cat .pgpass\ndb.internal:5432:main:app:«{9:a}{2:d}»\n",
    "sql-password": "CREATE USER app IDENTIFIED BY '«{9:a}#{2:d}»';",
    "netrc-password": "machine db.internal login app password «{9:a}{2:d}»\n",
    "powershell-password": "ConvertTo-SecureString '«{9:a}{2:d}»' -AsPlainText",
    "credential-call": "requests.get(url, auth=('deploy', '«{9:a}{2:d}»'))",
    "positional-password": ("net user deploy «{9:a}{2:d}» /add", "rabbitmqctl add_user app «{9:a}{2:d}»"),
    "oracle-password": "sqlplus app/«{9:a}{2:d}»@main",
    "impacket-password": ("impacket-psexec app/ada:«{9:a}{2:d}»@db1", "secretsdump.py ada:«{9:a}{2:d}»@db1"),
    "assignment": "export SERVICE_PASSWORD=«{12:a}{2:d}»\n",
    "email": "ada.{12:w}@lovelace.org",
}
"""The form or forms of each kind, by the name of the rule that should find it."""

KINDS = (*FORMS, "private-key", "basic-auth")


@dataclass(frozen=True, slots=True)
class Sample:
    """A secret and a text that contains it."""

    kind: str
    text: str
    secret: str


def forms(kind: str) -> tuple[str, ...]:
    """Return the forms of a kind; an empty one if `sample` makes it in another way."""
    known = FORMS.get(kind, "")
    return (known,) if isinstance(known, str) else known


def sample(kind: str, dice: random.Random, form: str | None = None) -> Sample:
    """Return a random secret of a kind, in one of its forms.

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
    chosen = dice.choice(forms(kind)) if form is None else form
    text = _FIELD.sub(lambda field: _random(int(field[1]), field[2], dice), chosen)
    before, marked, rest = text.partition("«")
    if not marked:
        return Sample(kind, text, text)
    secret, _, after = rest.partition("»")
    return Sample(kind, before + secret + after, secret)


def near_miss(made: Sample) -> str:
    """Return a text of nearly the same form without a secret: its characters become `x`.

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
    """Draw characters; the first and last are letters or digits, because no token ends in a hyphen."""
    drawn = [dice.choice(_ALPHABETS[alphabet]) for _ in range(count)]
    for place in {0, count - 1}:
        while not drawn[place].isalnum():
            drawn[place] = dice.choice(_ALPHABETS[alphabet])
    return "".join(drawn)
