"""Rules for secrets that one program writes to another, and for files whose lines hold one."""

from sttx_ccsniff.redact.basic import is_basic
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.values import is_constant, is_reference, is_spoken_password, is_stand_in

_READS = (
    r"--password-stdin|--with-token|--stdin|sudo[ ][^|;\n]{0,60}-[A-Za-z]{0,4}S\b|--passphrase-fd|passwd\b|"
    r"-pass(?:in)?[ ]stdin|cryptsetup|kinit\b|secrets?[ ](?:set|put|add|create)"
)


def _is_piped(secret: str) -> bool:
    """Return whether a text that is piped is a secret, perhaps after a user's name and a colon."""
    secret = secret.removesuffix("\\n").removesuffix("\n").rpartition(":")[2]
    return len(secret) >= 3 and not (is_stand_in(secret) or is_reference(secret) or is_constant(secret))


_PIPED = "Secrets that one program writes to another"
_PIPED_FORM = "`echo x | docker login --password-stdin`, `echo x | sudo -S`, `chpasswd <<< user:x`"

PIPE_RULES: tuple[Rule, ...] = (
    Rule(
        name="piped-password",
        regex=r"(?:echo|printf|print|Write-Output)(?:[ ]-[neE]{1,3})?[ ]"
        r"(?:[\"']?%s(?:\\n|\n)?[\"']?[ ])?(?P<quote>[\"'])?"
        r"(?P<secret>(?(quote)(?:(?!(?P=quote))[^\n]|(?P=quote){2,3}(?=\w)|\n){2,1024}+(?=(?P=quote))|[^\s\"'`;|]{3,1024}+))"
        rf"[\"']?[ ]{{0,4}}\|[ ]{{0,4}}[^\n|;]{{0,160}}?(?:{_READS})",
        keywords=(
            "password-stdin",
            "with-token",
            "passphrase-fd",
            "passwd",
            " -pass",
            "cryptsetup",
            "kinit",
            "sudo ",
            "--stdin",
            "secret ",
            "secrets ",
        ),
        label="secret",
        valid=_is_piped,
        about=_PIPED,
        form=_PIPED_FORM,
    ),
    Rule(
        name="piped-password",
        regex=r"(?:password-stdin|with-token|passwd|cryptsetup|kinit|secrets?[ ](?:set|put|add|create)"
        r"|sudo[ ][^|;\n<]{0,60}-[A-Za-z]{0,4}S\b)[^\n|;<]{0,160}<<<[ ]?(?P<quote>[\"'])?"
        r"(?P<secret>(?(quote)(?:(?!(?P=quote))[^\n]|(?P=quote){2,3}(?=\w)){3,1024}+(?=(?P=quote))"
        r"|[^\s\"'`;|]{3,1024}+))",
        keywords=(
            "password-stdin",
            "with-token",
            "passwd",
            "cryptsetup",
            "kinit",
            "secret ",
            "secrets ",
            "sudo ",
        ),
        back=0,
        label="secret",
        valid=_is_piped,
        about=_PIPED,
        form=_PIPED_FORM,
    ),
    Rule(
        name="spoken-password",
        regex=r"(?P<quote>[\"'`])(?P<secret>[^\s\"'`]{6,80}+)(?P=quote)[ ]"
        r"(?i:as[ ](?:the|my|a|its)[ ]pass(?:word|phrase))",
        keywords=(
            "as the password",
            "as my password",
            "as a password",
            "as its password",
            "as the passphrase",
        ),
        label="secret",
        valid=is_spoken_password,
        about="Passwords that a sentence quotes before it says what they are",
        form="`use 'x' as the password`",
    ),
    Rule(
        name="powershell-password",
        regex=r"(?P<quote>[\"'])(?P<secret>(?:(?!(?P=quote))[^\n]|(?P=quote){2,3}(?=\w)){4,256}+)(?P=quote)"
        r"[ ]{0,4}\|[ ]{0,4}(?i:ConvertTo-SecureString)",
        keywords=("securestring",),
        label="secret",
        valid=_is_piped,
    ),
    Rule(
        name="pgpass-line",
        regex=r"(?:(?<=^)|(?<=[\s\"'>]))(?:[\w.-]{1,120}|\*):(?:\d{4,5}|\*):[\w*-]{1,64}:[\w.@*-]{1,64}:(?P<secret>[^\s\"']{4,256}+)",
        keywords=("pgpass",),
        label="secret",
        valid=lambda secret: not is_stand_in(secret),
        about="Passwords in `.pgpass`",
        form="host`:`port`:`database`:`user`:`x, in a text that names the file",
    ),
    Rule(
        name="encoded-login",
        regex=r"auth[\"']?[ ]{0,8}[:=][ ]{0,8}[\"']?(?P<secret>[A-Za-z0-9+/]{8,1024}+={0,2})",
        keywords=("auth",),
        back=0,
        label="secret",
        valid=is_basic,
        about="Encoded logins of registries",
        form='`_auth=` (npm) and `"auth":` (Docker) + base64 of user, colon, password',
    ),
    Rule(
        name="seed-phrase",
        regex=r"(?i:mnemonic|(?:seed|recovery|backup)[ _-]?phrase)[\w \"'`:=>*-]{0,30}?[\"'`:= \n]"
        r"(?P<secret>[a-z]{3,8}+(?:[ ,\n]{1,3}+[a-z]{3,8}+){11,23}+)"
        r"(?![ ,]{0,3}[a-z])",
        keywords=(
            "mnemonic",
            "seed phrase",
            "seed_phrase",
            "recovery phrase",
            "recovery_phrase",
            "seedphrase",
        ),
        back=0,
        label="secret",
        about="Phrases that restore a wallet",
        form="12 to 24 lower-case words after `mnemonic` or `seed phrase` (BIP 39)",
    ),
)
