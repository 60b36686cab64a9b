"""Rules for hashes of passwords, from which weak passwords can be guessed: `/etc/shadow`, Django, LDAP."""

from sttx_ccsniff.redact.rule import Rule

_D = r"\$\$?"  # Compose files double it
_CHARACTERS = "[./A-Za-z0-9]"
_CRYPT = rf"""(?x)(?:(?<!\w)|(?<=[0-9;]m)){_D}(?:
    (?:1|5|6|apr1|md5) {_D} (?:rounds=\d{{1,9}}{_D})? {_CHARACTERS}{{0,16}} {_D} {_CHARACTERS}{{16,86}}
  | 2[abxy]? {_D} \d\d {_D} {_CHARACTERS}{{40,53}}
  | (?:y|gy|7) {_D} {_CHARACTERS}{{1,40}} {_D} [./A-Za-z0-9$]{{20,120}}
  | [89] {_D} {_CHARACTERS}{{14}} {_D} {_CHARACTERS}{{43}}
  | [PHS] \$ {_CHARACTERS}{{28,60}}
  | (?:argon2(?:id|[id])|scrypt|pbkdf2(?:-sha\d{{1,3}})?|bcrypt-sha256|sha1|krb5[a-z]{{2,8}}|DCC2|5r|ml|NT)
    {_D} [^\s'"`<>]{{20,2000}}+
)"""

HASH_RULES: tuple[Rule, ...] = (
    Rule(
        name="password-hash",
        regex=_CRYPT,
        keywords=tuple(
            f"${kind}"
            for kind in (
                *(
                    "1$",
                    "5$",
                    "6$",
                    "7$",
                    "8$",
                    "9$",
                    "2a$",
                    "2b$",
                    "2x$",
                    "2y$",
                    "y$",
                    "gy$",
                    "p$",
                    "h$",
                    "s$",
                    "5r$",
                ),
                *(
                    "apr1$",
                    "md5$",
                    "sha1$",
                    "argon2",
                    "scrypt$",
                    "pbkdf2",
                    "bcrypt-",
                    "krb5",
                    "dcc2$",
                    "nt$",
                    "ml$",
                ),
            )
        ),
        back=0,
        label="secret",
        entropy=2.9,
        about="Hashes of passwords in the form of crypt",
        form="`$1$`, `$2b$`, `$5$`, `$6$`, `$y$`, `$apr1$`, `$argon2id$` and others + salt + hash",
    ),
    Rule(
        name="framework-hash",
        regex=r"(?:pbkdf2_sha\d{1,3}|pbkdf2:sha\d{1,3}|scrypt|scrypt:\d{1,7}:\d{1,3}:\d{1,3}|argon2|bcrypt_sha256|bcrypt|sha1|md5|pbkdf2:sha\d{1,3}:\d{1,8}"
        r"|SCRAM-SHA-(?:1|256))\$(?P<secret>[^\s'\":,`<>]{0,200}[$:][A-Za-z0-9+/=._:$-]{20,400}+)",
        keywords=(
            "pbkdf2_sha",
            "pbkdf2:sha",
            "scrypt$",
            "scrypt:",
            "argon2$",
            "bcrypt_sha256$",
            "bcrypt$",
            "sha1$",
            "md5$",
            "scram-sha-",
        ),
        back=0,
        label="secret",
        entropy=2.9,
        about="Hashes of passwords as Django, Werkzeug and PostgreSQL store them",
        form="`pbkdf2_sha256$`, `scrypt:32768:8:1$`, `SCRAM-SHA-256$` and others + salt + hash",
    ),
    Rule(
        name="ldap-hash",
        regex=r"\{(?:S?(?:SHA|MD5)\d{0,3}|CRYPT|PBKDF2[\w-]{0,12}|ARGON2)\}(?P<secret>[A-Za-z0-9+/=$.,_-]{16,300}+)",
        keywords=("{ssha", "{sha", "{smd5}", "{md5}", "{crypt}", "{pbkdf2", "{argon2}"),
        back=0,
        label="secret",
        entropy=2.9,
        about="Hashes of passwords as LDAP and Dovecot store them",
        form="`{SSHA}`, `{SHA512}`, `{CRYPT}` and others + base64 (RFC 2307)",
    ),
)
