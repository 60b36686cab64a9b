"""Decides whether a name is a secret's name, in English and in other languages. Knows no values.

`DB_PASSWORD`, `apiKey` and `пароль` are names of secrets; `max_tokens` and `key` are not.
"""

import re
from collections.abc import Iterator
from functools import lru_cache

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORD_WORDS = """
passwort passwords pwd pwds passphrase passphrases passcode pass passe passord passw passwrd pword psw pw mdp
psk requirepass masterpass masterauth userpass dbpass dbpw rootpass adminpass mysqlpass smtppass ftppass
sshpass httppass storepass keypass storepw keystorepass truststorepass authpass privpass vncpass wifipass
loginpass apppass bindpw rootpw sudopass vaultpass keyphrase passkey
"""
_PASSWORDS = frozenset(_PASSWORD_WORDS.split())
_SECRETS = frozenset(["secrets", "credential", "credentials", "creds", "cred"])
_KEY_WORDS = """
access account admin anon api app auth authorization client consumer crypto deploy deployment encryption
encrypt functions hmac jwt license licence master password private project role sas secret security server
service session shared sign signing storage subscription webhook write root tls ssl ssh gpg pgp host bot hash
secure logged nonce cipher aes rsa wallet validator account openai anthropic gemini stripe sendgrid twilio
mailgun github gitlab datadog dd algolia mistral cohere deepseek groq openrouter tunnel
"""
_KEYS = frozenset(_KEY_WORDS.split())
_SUFFIX_WORDS = """
base value string str plain plaintext raw base64 b64 current new old default dev prod production live test
staging main primary secondary data in out
"""
_SUFFIXES = frozenset(_SUFFIX_WORDS.split())
_LOGINS = frozenset(("rediscli", "redis", "http", "basic", "proxy", "registry", "npm", "smtp", "ftp"))
FOLDERS = frozenset(("PWD", "OLDPWD"))

# The word for a password in other languages. In Latin ones, any letter beyond ASCII is searched as `?`.
_LATIN_WORDS = """
contrase kennwort wachtwoord has?o haslo heslo lozink geslo parola parol? parool l?senord losenord adgangskode
kodeord salasan jelsz sifre ?ifre clave senha palavra-passe slaptaz paroli m?t.kh? mat.khau fjalekalim
fjal?kalim pasahitz lykilor? kata.sandi
"""
FOREIGN_LATIN = tuple(word.replace(".", " ") for word in _LATIN_WORDS.split())
_LATIN_START = tuple(word for word in FOREIGN_LATIN if " " not in word)
_OTHER_SCRIPTS = """
парол лозинк құпиясөз 密码 密碼 口令 暗証番号 パスワード ﾊﾟｽﾜｰﾄﾞ 비밀번호 비번 암호 κωδικ συνθηματικ סיסמ
كلمة.المرور كلمة.السر رمز.العبور گذرواژه رمز.عبور पासवर्ड कूटशब्द गुप्तशब्द পাসওয়ার্ড கடவுச்சொல் పాస్‌వర్డ్ รหัสผ่าน ລະຫັດ
ពាក្យសម្ងាត់ စကားဝှက် პაროლ գաղտնաբառ нууц.үг የይለፍ.ቃል
"""
_SCRIPTS = re.compile(
    "|".join(
        sorted({form for word in _OTHER_SCRIPTS.split() for form in (word, word.capitalize(), word.upper())})
    )
)
_STEM = re.compile(r"pass|pw|psw|secret|token|key|cred|psk|mdp|master|pat\b|_auth\b", re.IGNORECASE)


def other_scripts(text: str) -> Iterator[int]:
    """Yield where a word for a password ends that is not in Latin letters."""
    return (match.end() for match in _SCRIPTS.finditer(text))


def is_secret_name(name: str) -> bool:
    """Return whether a name is a secret's name, which its last words decide.

    >>> [is_secret_name(name) for name in ("DB_PASSWORD", "apiKey", "x-auth-token", "openai.api_key")]
    [True, True, True, True]
    >>> [is_secret_name(name) for name in ("max_tokens", "password_field", "key", "token_type", "tokenizer")]
    [False, False, False, False, False]
    """
    return name_kind(name) in ("password", "secret")


def is_password_name(name: str) -> bool:
    """Return whether people choose the value themselves, so that it may be short and not random."""
    return name_kind(name) == "password"


def name_kind(name: str) -> str:
    """Return `password`, `secret`, `unsure` (a password's if a user's name is near), or nothing.

    >>> name_kind("client-key-data"), name_kind("requirepass"), name_kind("compass"), name_kind("contraseña")
    ('secret', 'password', '', 'password')
    """
    name = name[-80:]
    return _cached_kind(name) if name.isalpha() else _kind(name)


def _kind(name: str) -> str:
    kind = _english_kind(name) if _STEM.search(name) else ""
    return kind or ("password" if is_foreign_name(name) else "")


@lru_cache(maxsize=1024)
def _cached_kind(name: str) -> str:
    """Remember frequent names; only those of letters, so that no token is kept."""
    return _kind(name)


def _english_kind(name: str) -> str:
    words = [word.lower() for word in _WORDS.findall(name) if not word.isdigit()]
    while len(words) > 1 and words[-1] in _SUFFIXES:
        words.pop()
    if not words:
        return ""
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last.endswith(("password", "passwords", "passwd", "passphrase")):
        return "password"
    if last == "auth" and name.isupper() and before in _LOGINS:
        return "password"
    if last == "pass" and not before:
        return "password" if name.startswith("-") else "unsure"
    if last in _PASSWORDS and (last != "pwd" or name not in FOLDERS):
        return "password"
    qualifier = before if last in ("key", "keys") else last.removesuffix("s").removesuffix("key")
    if (
        last in _SECRETS
        or last.endswith(("secret", "token"))
        or (last == "pat" and name.isupper() and before)
        or (last.endswith(("key", "keys")) and qualifier in _KEYS)
    ):
        return "secret"
    return ""


def last_word(name: str) -> str:
    """Return the last word of a name in lower case.

    >>> last_word("Set-Cookie"), last_word("createdAt"), last_word("key2"), last_word("")
    ('cookie', 'at', 'key', '')
    """
    words = [word for word in _WORDS.findall(name[-80:]) if not word.isdigit()]
    return words[-1].lower() if words else ""


def is_foreign_name(name: str) -> bool:
    """Return whether a name contains the word for a password in another language."""
    low = name.lower().encode("ascii", "replace").decode()
    words = re.split(r"[^a-z?]+", low)
    if any(word.startswith(_LATIN_START) for word in words):
        return True
    return not name.isascii() and _SCRIPTS.search(name) is not None
