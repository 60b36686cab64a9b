r"""Rules for secrets without a vendor's prefix, which are recognized by the text around them.

The keywords of each rule are literal and rare, so they are searched first. All repetitions are bounded or
possessive, so that every text takes linear time.
"""

import re

from sttx_ccsniff.redact.basic import is_basic
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.values import is_random_secret, is_reference, is_stand_in

# Between two lines of a key: line ends, and what diffs, quotes and line numbers put before a line.
_GAP = r"""[\s"'`+,>|*#]*+(?:\d{1,6}+(?:→|[:|\t])[\s"'`+,>|*#]*+)?(?:-(?!-)[ \t]*+)?"""
_PEM = (
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rf"(?:{_GAP}[A-Za-z-]{{3,20}}: [^\n]{{0,200}})*+"
    rf"(?:{_GAP}[A-Za-z0-9+/=]{{16,}}+)++"
    rf"(?:{_GAP}[A-Za-z0-9+/=]{{1,15}}+(?={_GAP}(?:-----END|=[A-Za-z0-9+/]{{4}}|\Z)))?"
    rf"(?:{_GAP}=[A-Za-z0-9+/]{{4}}(?={_GAP}-----END))?"
    rf"(?:{_GAP}-----END [A-Z0-9 ]{{1,40}}-----)?"
)


def _is_url_password(secret: str) -> bool:
    """Return whether the text between user and host is a password, not a template or a port."""
    plain = secret.strip("*.-_").lower()
    if len(set(secret)) < 2 or plain in _WORDS or is_reference(secret) or _PORT.match(secret):
        return False
    return not is_stand_in(secret) or (len(secret) > 5 and _SIGNS.search(secret) is not None)


_PORT = re.compile(r"\d{1,5}(?:[^\w@]|\Z)")
_SIGNS = re.compile(r"\w[$^&!~#]\w")
_WORDS = frozenset(
    ("", "password", "passwd", "pass", "pwd", "pw", "secret", "token", "key", "user", "p", "port")
)

GENERIC_RULES: tuple[Rule, ...] = (
    Rule(
        name="private-key",
        regex=_PEM,
        keywords=("-----begin ",),
        back=0,
        about="Private keys: RSA, EC, OpenSSH, PGP, PKCS 8; also incomplete ones",
        form="PEM (RFC 7468): `-----BEGIN` … `PRIVATE KEY-----` and lines of base64",
    ),
    Rule(
        name="connection-password",
        regex=r"://[^\s:@/?#\"'`<>\\|]{0,128}+:(?P<secret>(?:\$\([^()\n]{0,80}\)|[^\s\"`\\@]|@(?=[^\s\"'`]{0,256}@[\w\[$])){2,256}+)"
        r"(?=@[\w\[${%<-])(?!@sha256)",
        keywords=("://",),
        back=0,
        label="secret",
        valid=_is_url_password,
        about="Passwords in connection strings",
        form="any `scheme://user:password@host` (RFC 3986)",
    ),
    Rule(
        name="url-token",
        regex=r"https://(?P<secret>[A-Za-z0-9_-]{20,256}+)(?=@[\w-])",
        keywords=("://",),
        back=5,
        label="secret",
        valid=is_random_secret,
        about="Tokens before a URL's host",
        form="`https://token@host` (RFC 3986)",
    ),
    Rule(
        name="slack-webhook",
        regex=r"hooks\.slack\.com/(?P<secret>(?:services|workflows|triggers)/[A-Za-z0-9/_-]{30,100}+)",
        keywords=("hooks.slack.com/",),
        back=0,
        about="Slack webhook URLs",
        form="`hooks.slack.com/services/T`…`/B`…`/` + 24 of A-Za-z0-9",
    ),
    Rule(
        name="discord-webhook",
        regex=r"/api/webhooks/(?P<secret>\d{15,21}/[A-Za-z0-9_-]{50,100}+)",
        keywords=("/api/webhooks/",),
        back=0,
        about="Discord webhook URLs",
        form="`discord.com/api/webhooks/` + number + `/` + 68 of A-Za-z0-9_-",
    ),
    Rule(
        name="telegram-token",
        regex=r"\d{8}:AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])",
        keywords=(":aa",),
        back=8,
        about="Telegram bot tokens",
        form="8 to 10 digits + `:AA` + 33 of A-Za-z0-9_-",
    ),
    Rule(
        name="mailchimp-key",
        regex=r"[0-9a-f]{32}-us\d{1,2}(?![A-Za-z0-9])",
        keywords=("-us",),
        back=32,
        about="Mailchimp API keys",
        form="32 hexadecimal + `-us` + data center",
    ),
    Rule(
        name="azure-key",
        regex=r"(?i:accountkey|sharedaccesskey)=(?P<secret>[A-Za-z0-9+/]{40,88}={1,2})",
        keywords=("accountkey=", "sharedaccesskey="),
        back=0,
        entropy=2.9,
        about="Azure storage and service bus keys",
        form="`AccountKey=` + 86 of base64 + `==`; `SharedAccessKey=` + 43 of base64 + `=`",
    ),
    Rule(
        name="azure-sas",
        regex=r"(?<=[?&;])sig=(?P<secret>(?:[A-Za-z0-9]|%[0-9A-Fa-f]{2}|[+/_-]){40,100}+={0,2})",
        keywords=("sig=",),
        back=0,
        entropy=2.9,
        about="Azure shared access signatures",
        form="`sig=` + 43 of base64, URL-encoded, + `%3D`",
    ),
    Rule(
        name="azure-client-secret",
        regex=r"(?:(?<![\w~-])|(?<=[0-9;]m))[A-Za-z0-9_~.-]{3}\dQ~[A-Za-z0-9_~.-]{31,34}(?![\w~-])",
        keywords=("q~",),
        back=4,
        entropy=3.0,
        about="Azure (Entra) client secrets",
        form="3 + digit + `Q~` + 31 to 34 of A-Za-z0-9_~.-",
    ),
    Rule(
        name="azure-service-key",
        regex=r"(?:(?<![A-Za-z0-9])|(?<=[0-9;]m))[A-Za-z0-9]{52}JQQJ99[A-Z]{2}AC[A-Za-z0-9]{18,24}(?![A-Za-z0-9])",
        keywords=("jqqj99",),
        back=52,
        entropy=3.0,
        about="Azure AI, Web PubSub and DevOps keys, the newer ones",
        form="52 of A-Za-z0-9 + `JQQJ99` + 2 of A-Z + `AC` + 22; not documented, seen in published keys",
    ),
    Rule(
        name="aws-secret-key",
        regex=r"(?i:secret_?-?(?:access)?_?-?key)[\"'\s]{0,4}(?:=>|:=|[=:])[\s\"']{0,4}(?P<secret>[A-Za-z0-9/+]{40})(?![\w/+=])",
        keywords=("secret_access", "secret-access", "secretaccess", "secret_key", "secretkey"),
        back=0,
        entropy=3.7,
        valid=lambda secret: "EXAMPLE" not in secret,
        about="AWS secret access keys, after their name",
        form="40 of A-Za-z0-9/+ after `secret_access_key`",
    ),
    Rule(
        name="bearer",
        regex=r"(?i:(?:bearer|ssws|token))[\s:]{1,3}(?P<secret>[A-Za-z0-9._~+/-]{16,4096}+={0,2})",
        keywords=("bearer", "ssws ", "token "),
        back=0,
        label="secret",
        valid=is_random_secret,
        about="Bearer tokens",
        form="`Authorization: Bearer` + token (RFC 6750)",
    ),
    Rule(
        name="basic-auth",
        regex=r"(?i:basic)\s{1,3}(?P<secret>[A-Za-z0-9+/]{8,1024}+={0,2})",
        keywords=("basic ",),
        back=0,
        label="secret",
        valid=is_basic,
        about="Basic authorization",
        form="`Authorization: Basic` + base64 of user, colon, password (RFC 7617)",
    ),
)

COMMAND = Rule(
    name="command-line",
    regex="",
    label="secret",
    about="Values of programs' flags that take a secret: `mysql -p`x, `curl -u user:`x, `docker login -p x`",
    form="a flag of a program in `programs.toml`, whose value is neither a variable nor a stand-in",
)
ASSIGNMENT = Rule(
    name="assignment",
    regex="",
    label="secret",
    about='Values of names such as `password` and `token`: `PASSWORD=`…, `"api_key": `…, `--token `…',
    form="by shape: not a variable, call, path or stand-in; random, or a password in quotes",
)
FIELD = Rule(
    name="secret-field",
    regex="",
    label="secret",
    about="Strings under such a name, or below it, in a structured value or a JSON document",
    form="any string of 4 or more characters that is not a stand-in",
)
