"""Rules for secrets that one program writes to another, and for files whose lines hold one."""

from sttx_ccsniff.redact.basic import is_basic
from sttx_ccsniff.redact.rule import Rule
from sttx_ccsniff.redact.values import is_constant, is_reference, is_stand_in

_READS = (
    r"--password-stdin|--with-token|--stdin|sudo[ ][^|;\n]{0,60}-[A-Za-z]{0,4}S\b|--passphrase-fd|passwd\b|"
    r"-pass(?:in)?[ ]stdin|cryptsetup|secrets?[ ](?:set|put|add|create)"
)


def _is_piped(secret: str) -> bool:
    """Return whether a text that is piped is a secret, perhaps after a user's name and a colon."""
    secret = secret.removesuffix("\\n").removesuffix("\n").rpartition(":")[2]
    return len(secret) >= 3 and not (is_stand_in(secret) or is_reference(secret) or is_constant(secret))


PIPE_RULES: tuple[Rule, ...] = (
    Rule(
        name="piped-password",
        regex=r"(?:echo|printf|print|Write-Output)(?:[ ]-[neE]{1,3})?[ ]"
        r"(?:[\"']?%s(?:\\n|\n)?[\"']?[ ])?(?P<quote>[\"'])?"
        r"(?P<secret>(?(quote)(?:(?!(?P=quote))[^\n]|\n(?=[\"'])){2,1024}+(?=(?P=quote))|[^\s\"'`;|]{3,1024}+))"
        rf"[\"']?[ ]{{0,4}}\|[ ]{{0,4}}[^\n|;]{{0,160}}?(?:{_READS})",
        keywords=(
            "password-stdin",
            "with-token",
            "passphrase-fd",
            "passwd",
            " -pass",
            "cryptsetup",
            "sudo ",
            "--stdin",
            "secret ",
            "secrets ",
        ),
        label="secret",
        valid=_is_piped,
        about="Secrets that one program writes to another",
        form="`echo x | docker login --password-stdin`, `echo x | sudo -S`, `echo user:x | chpasswd`",
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
