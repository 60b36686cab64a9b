"""Decides whether a value is a secret, or a reference to one kept elsewhere, a stand-in, or code.

`${KEY}`, `<password>` and `{{ token }}` as a whole stand for a secret kept elsewhere; `aB3$xY9` is one.
`your-token-here` stands for none. Knows no names.
"""

import re

from sttx_ccsniff.redact.rule import entropy

_HEAD = 100  # characters of a value that show whether it is a stand-in
_MIN_PASSWORD = 6
_MAX_WORDS = 8
_BRACED = (
    r"\$\{[^{}\n]{0,200}\}"
    r" | \$\([^()\n]{0,200}(?:\([^()\n]{0,200}\)[^()\n]{0,200})?\) | \{\{[^{}\n]{0,200}\}\}"
    r" | \#\{[^{}\n]{0,200}\} | <%[^%\n]{0,200}%> | %\(\w{1,60}\)[sd] | \{[\w.!:\[\]()]{0,100}\}"
)
_REFERENCE = re.compile(
    rf"""(?x)(?:
    \$(?:(?i:env|script|global|local|private):)?[A-Za-z_]\w* | \$\d | (?:\$[A-Z_]+){{2,}} | @[A-Za-z_]\w*@
    | %[A-Za-z_]\w*% | %[sdvq@] | :[a-z_]+ | `[^`\n]{{0,200}}` | {_BRACED}
    | <[A-Za-z][\w\ .:/|-]{{0,100}}> | \[[A-Za-z][A-Za-z_\ -]{{0,60}}\] | %?<[^<>$\d]{{0,100}}>
    | (?:process\.env|import\.meta\.env|os\.environ|os\.getenv|System\.getenv|Deno\.env|ENV\[|env\.|secrets\.
        |vars\.|vault:|op://|keyring:|arn:aws:|!ref|!sub|!vault|ref\+)\S*
    )[;,]?"""
)
_BRACED_PART = re.compile(rf"(?x){_BRACED}")
# Names between signs that passwords have too; `${NAME}` and `{{ name }}` are references whatever the name.
_MARKED_NAME = re.compile(
    r"\A(?:\$\w+|@\w+@|%\w+%|<[\w .:/|-]+>)[;,]?\Z|(?<![$#%{])\{[\w.!:\[\]()]{1,100}\}(?!\})"
)
_VARIABLE = re.compile(r"\$[A-Za-z_]\w*")
_MARKS = frozenset("$!@#%^&*~+=?(){}<>|\\")
_STAND_IN = re.compile(
    r"""(?xi)
    your|example|change.?me|replace|placeholder|insert|enter[_-]|dummy|redacted|sample|todo|fixme|lorem|foobar
    | ^(?:null|none|nil|undefined|true|false|empty|string|secret|password|token|test|mock|fake)+[\d_-]*$
    | ^(?:my|the|a|some|this|test|mock|fake|new|old|valid|invalid|wrong|bad|correct)[_-]?
      (?:super)?[_-]?(?:secret|password|passwd|token|key|api|pass|pw)(?![a-z])
    """
)
_MASKED = re.compile(
    r"[\w.:-]{0,12}(?:\*{3,}|\.{3,}|…|•{2,}|x{4,}|X{4,})[\w*.-]{0,12}|[\w./+-]{0,40}(?:x{6,}|X{6,})[\w./+-]{0,40}"
)
# Rules that a form's field must pass, as Laravel writes them, in quotes.
_VALIDATION = re.compile(
    r"(?:required|nullable|sometimes|present|filled|string|confirmed)(?:\|[a-z_]+(?::[\w,.]+)?)+"
)
# The public first part of a JSON web token, the rest of which was cut: `{"alg":`, `{"typ":`, `{"kid":`.
_TOKEN_HEADER = re.compile(r"eyJ(?:hbGciOi|0eXAiOi|raWQiOi)[\w-]{0,120}+(?:\.{2,3}|…)?")
_PATH = re.compile(r"(?:~|\.{1,2}|[A-Za-z]:)?[\\/][\w.@ -]+(?:[\\/]|\.\w+$)|https?://")
_FILE = re.compile(r"[a-z][\w-]*(?:/[\w.-]+)+\.[a-z]{1,5}")
_HEX = re.compile(r"(?=[0-9a-fA-F]*[a-fA-F])(?=[a-fA-F]*[0-9])[0-9a-fA-F]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{2,}|[a-z]|[A-Z]|[$!@#%^&*~+=?(){}<>|]+")
# Code: names joined by dots and the like, then perhaps a call, an index or a type's argument.
_CHAIN = re.compile(r"[!&*@-]{0,3}\$?[A-Za-z_]\w*\$?(?:(?:\?\.|!\.|\.|::|->|:)\$?[A-Za-z_]\w*\$?){0,40}")
_TECHNICAL = re.compile(
    r"(?i)sha\d{1,3}|md5|base\d\d|b64|utf8|oauth[12]|x509|p12|k8s|ec2|s3|i18n|v\d|[12]fa|h26\d|web3|auth0|[bp]2[bpc]"
    r"|to2|x86|arm64|int\d\d?|u\d\d?|argon2\w*|pbkdf2\w*|str2\w+|bytes2\w+"
)
_ODD = re.compile(r"[A-Za-z]\d+[A-Za-z]|[a-z]\d+[A-Z]|\$\(\d")
_SECRET_WORD = re.compile(r"(?i)pass|pwd|secret|token|key|cred|auth|user|login|settings|config")
_CLOSES = {"(": ")", "[": "]", "{": "}", "<": ">"}
# What code may have between a bracket that closes and the next that opens, and after the last one.
_BETWEEN = re.compile(r"(?:(?:[.?!]?\.|::|[-=]>|[-+*/|&?:=!<,)\]}]{1,3})[\w$.]*)*")
_AFTER = re.compile(r"[)\]};,>]*|(?:\.|->|::|\?\.)\w.*")
# Words of messages about passwords, which no password has.
_SENTENCE_WORDS = """
a an and are at be been between by can cannot char character characters chars contain contains digit digits
enter field for from has have if in invalid is it least length letter letters long max maximum may min minimum
more must no not number numbers of on or passphrase password passwords please required should symbol symbols
than that the this to use used using valid was when will with you your
"""
_SENTENCE = frozenset(_SENTENCE_WORDS.split())
_PHRASE_WORD = re.compile(r"\w[$^&*~!]\w|\$\d+[A-Za-z]|[a-z][A-Z]+\d")


def is_reference(value: str) -> bool:
    """Return whether a value as a whole stands for a secret that is kept elsewhere.

    >>> [is_reference(value) for value in ("$TOKEN", "${TOKEN}", "%TOKEN%", "<token>", "{{ t }}", "$(pass)")]
    [True, True, True, True, True, True]
    >>> [is_reference(value) for value in ("aB3$xY9", "aB3${x}Y9", "a<b>c9", "$ecret$9")]
    [False, False, False, False]
    >>> [is_reference(value) for value in ("<hun7er>", "%aB3xY9%", "{p4ss}", "$db2_token", "<sha256sum>")]
    [False, False, False, True, True]
    """
    if any(_is_odd(name[0]) for name in _MARKED_NAME.finditer(value)):
        return False
    if _REFERENCE.fullmatch(value):
        return True
    rest, count = _BRACED_PART.subn("", value)
    if not count or any(map(str.isdigit, rest)):
        return False
    words = rest.strip("_-.:/ ")
    if not words:
        return True
    return words != rest and not _MARKS.intersection(rest) or _STAND_IN.search(words) is not None


def _is_odd(name: str) -> bool:
    """Return whether digits stand within a word, as in passwords but not in names: `P4ssw0rd`."""
    return _ODD.search(_SECRET_WORD.sub("_", _TECHNICAL.sub("_", name))) is not None


def without_sign(value: str) -> str:
    """Return a value that nothing expands, as in single quotes, without the `$` of a variable.

    >>> [without_sign(value) for value in ("$ecret99", "$DB_PASSWORD", "$password", "$a$b")]
    ['ecret99', '$DB_PASSWORD', '$password', '$a$b']
    """
    if not _VARIABLE.fullmatch(value) or is_constant(value[1:]):
        return value
    is_name_of_one = _SECRET_WORD.search(value) and ("_" in value or not any(map(str.isdigit, value)))
    return value if is_name_of_one else value[1:]


def is_constant(value: str) -> bool:
    """Return whether a value is a name in capitals, as documentation has in the place of a secret.

    >>> is_constant("DB_PASSWORD_2"), is_constant("HQW730MGA58")
    (True, False)
    """
    return re.fullmatch(r"[A-Z]+\d?(?:_[A-Z\d]+)*", value) is not None


def is_stand_in(value: str) -> bool:
    """Return whether a value stands for a real one: a reference, a mask or an example.

    >>> [is_stand_in(value) for value in ("your-api-key-here", "${TOKEN}", "process.env.X", "xxxxxxxx")]
    [True, True, True, True]
    >>> [is_stand_in(value) for value in ("hunter2", "your$ecret9", "aB3$xY9kLm2")]
    [False, False, False]
    """
    head = value[:_HEAD]
    signs = {sign for sign in head if sign.isalnum()}
    if len(set(value)) < 3 or len(signs) < 2 or is_reference(value) or _MASKED.fullmatch(value):
        return True
    if _VALIDATION.fullmatch(value):
        return True
    if _TOKEN_HEADER.fullmatch(value) or "x" * 8 in head or "X" * 8 in head:
        return True
    if len(value) >= 16 and "EXAMPLE" in head:
        return True
    if _FILE.fullmatch(head) and (head.count("/") > 1 or not _ODD.search(head)):
        return True
    if _PATH.match(head) and not _is_random(re.sub(r"[\\/]", "", head[:40])):
        return True
    core = head.strip("<>[](){}*\"'!?.,;:")
    match = _STAND_IN.search(core)
    if match is None or _MARKS.intersection(core):
        return False
    return not _is_random(core.replace(match[0], ""))


def is_code(value: str, *, more: bool = False) -> bool:
    """Return whether an unquoted value is an expression or a type.

    Args:
        value: The value, without spaces and quotes.
        more: Whether the line goes on after it, so that brackets may close there.

    >>> [is_code(value) for value in ("settings.api_key", "getpass()", "Option<String>", "{form.password}")]
    [True, True, True, True]
    >>> [is_code(value) for value in ("hunter2", "aB3(xY9", "Pass(word1", "pa$$w0rd{")]
    [False, False, False, False]
    """
    value = value[:1024]
    if _ODD.search(_TECHNICAL.sub("", value)):
        return False
    chain = _CHAIN.match(value)
    rest = value[chain.end() :] if chain else value
    if not rest:
        return not value.isalnum()
    if rest[0] in _CLOSES:
        return _closes(rest, more=more or rest[-1] in "([{,;")
    if chain and re.fullmatch(r"[a-z]+\d*(?:\|[a-z]+\d*){2,}", value):
        return True
    return chain is not None and rest[0] in "|?&" and not any(map(str.isdigit, rest))


def _closes(rest: str, *, more: bool) -> bool:
    """Return whether brackets close, or may later, with only what code has between and after them.

    >>> [_closes(rest, more=False) for rest in ("(x).y(z)", "[0]||b[1]", "{w}9$(x)", "<y>z9(k)", "(x")]
    [True, True, False, False, False]
    """
    open_ones: list[str] = []
    last = -1
    for at, sign in enumerate(rest):
        if sign in _CLOSES:
            if not open_ones and last >= 0:
                between = rest[last + 1 : at]
                if not _BETWEEN.fullmatch(between) or (not between and rest[last] == "}"):
                    return False
            open_ones.append(_CLOSES[sign])
        elif open_ones and sign == open_ones[-1]:
            open_ones.pop()
            last = at
    if open_ones:
        return more
    return _AFTER.fullmatch(rest, last + 1) is not None or (more and not rest[last + 1].isalnum())


def is_name(value: str) -> bool:
    """Return whether a quoted value is the name of something, not a value: `settings.password`."""
    chain = _CHAIN.fullmatch(value)
    if chain is None or value.isalnum() or _ODD.search(_TECHNICAL.sub("", value)):
        return False
    return "_" not in value or "." in value or _SECRET_WORD.search(value) is not None


def is_password(value: str, *, quoted: bool = True, more: bool = False, no_message: bool = False) -> bool:
    """Return whether the literal value of a password's name is a password.

    Args:
        value: The value, without its quotes.
        quoted: Whether it cannot be code.
        more: See `is_code`.
        no_message: Whether it cannot be a message either.

    >>> [is_password(value) for value in ("hunter2", "s3cr3t!", "Password", "settings.password", "12345678")]
    [True, True, False, False, False]
    >>> is_password("getpass()", quoted=False), is_password("aB3$xY9", quoted=False)
    (False, True)
    """
    if len(value) < _MIN_PASSWORD or is_stand_in(value) or _TECHNICAL.fullmatch(value) or "\\x1b" in value:
        return False
    if any(map(str.isspace, value)):
        return quoted and is_phrase(value, literal=no_message)
    bare = value.rstrip(";,:)")
    if bare.isalpha():  # `password: string;`
        return bare.isascii() and len(_CAMEL.findall(bare)) * 2 >= len(bare) >= 8
    if is_name(value) or is_call(value) if quoted else is_code(value, more=more):
        return False
    letters = any(sign.isalpha() for sign in value)
    mixed = any(not sign.isalpha() and sign not in "_- .:,/" for sign in value)
    return (letters and mixed) or _is_random(value)


def is_spoken_password(value: str) -> bool:
    """Return whether a word after `the password is` is one, not a word of the sentence.

    >>> [is_spoken_password(value) for value in ("hunter2", "aB3(xY9", "base64-encoded", "SHA256", "wrong!")]
    [True, True, False, False, False]
    """
    core = value.rstrip(".,;:!?*")
    if core.startswith("$") and is_mixed(core[1:]):
        core = core[1:]  # nothing expands it
    technical = _TECHNICAL.match(core)
    rest = core[technical.end() :] if technical else core
    if not (any(map(str.isdigit, rest)) and any(map(str.isalpha, rest))):
        return False
    is_odd = core.isalnum() or is_mixed(core) or _INNER_MARK.search(core) is not None
    return is_odd and is_password(core, quoted=False)


def is_mixed(value: str) -> bool:
    """Return whether a value mixes digits and letters more than names do: `hunt3r2`, `Tr0ub4dor`, `aB3$xY9`.

    >>> [is_mixed(value) for value in ("hunt3r2", "aB3$xY9", "Hz8x1kQ", "simplify2", "3/3", "Step2")]
    [True, True, True, False, False, False]
    """
    return is_password(value) and (_ODD.search(_TECHNICAL.sub("", value)) is not None or is_strong(value))


def is_call(value: str) -> bool:
    """Return whether a quoted value is a call without digits: `getpass()`."""
    return (
        value.endswith(")")
        and not any(map(str.isdigit, value))
        and re.match(r"[A-Za-z_.]{4}", value) is not None
        and is_code(value)
    )


def is_strong(value: str) -> bool:
    """Return whether a value has a letter, a digit and, within it, a sign that words and names do not have.

    >>> [is_strong(value) for value in ("aB3$xY9k", "base64-encoded", "varchar(255)", "user1@example.org")]
    [True, False, False, False]
    """
    core = value.strip("()<>{}[].,;:!?*\"'`#$&|=")
    if len(value) < _MIN_PASSWORD or not _MARKS.intersection(core) - {"=", "\\"} or is_stand_in(value):
        return False
    if not any(map(str.isalpha, core)) or not any(map(str.isdigit, core)) or is_code(value, more=True):
        return False
    return re.fullmatch(r"[\w.+-]+@[\w-]+\.[\w.-]+|[\w.-]+[@+?|&][\w.-]*", core) is None


def is_random_secret(value: str, *, quoted: bool = False) -> bool:
    """Return whether a value is a generated secret: long and random.

    >>> is_random_secret("q7Zk2mX9vB4tR8wL"), is_random_secret("access_token_2_of_the_user")
    (True, False)
    """
    if len(value) < 12 or is_stand_in(value):
        return False
    if is_call(value) if quoted else _CALL.match(value) and is_code(value, more=True):
        return False
    return _is_random(value)


def is_alternating(value: str) -> bool:
    """Return whether letters and digits take turns in a long value, as in keys that somebody typed.

    >>> [is_alternating(value) for value in ("abcd1234efgh5678ijkl", "claude3opus20240229", "a1b2c3d4")]
    [True, False, False]
    """
    return (
        len(value) >= 16
        and value.isascii()
        and value.isalnum()
        and len(_SWITCH.findall(value)) >= 4
        and not is_stand_in(value)
    )


_SWITCH = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_INNER_MARK = re.compile(r"\w(?:[$^~!#(){}\[\]<>%&*+=]|@(?![\w-]+\.\w))+\w")
_CALL = re.compile(r"[!&*]?(?:[A-Za-z_$][\w$.:>?-]*)?[(\[{<]")


def _is_random(value: str) -> bool:
    """Return whether a value switches between letters, digits and cases more often than words do."""
    if len(value) < 12:
        return False
    if _HEX.fullmatch(value):
        return len(value) >= 16 and entropy(value) >= 2.5
    if entropy(value) < 3.0:
        return False
    pieces = len(_CAMEL.findall(value)) + len(re.findall(r"\d+", value))
    return pieces * 7 >= 2 * len(value) and (any(map(str.isdigit, value)) or pieces * 3 >= len(value))


def is_phrase(value: str, *, literal: bool = False) -> bool:
    """Return whether a quoted value with spaces is a password, not a message, a command or code.

    Args:
        value: The value, without its quotes.
        literal: Whether it can be no message, as after a flag: a number or a sign in it is enough.

    >>> [is_phrase(value) for value in ("two words $9x", "correct horse 9 battery", "At least 8 letters")]
    [True, True, False]
    >>> is_phrase("My pw 99"), is_phrase("My pw 99", literal=True)
    (False, True)
    """
    if len(value) > 200 or "\n" in value:
        return False
    plain = _BRACED_PART.sub("", value)
    words = [word.strip(".,;:!?()\"'") for word in plain.split()]
    words = [_TECHNICAL.sub("", word) for word in words if not is_reference(word)]
    if any(
        (_ODD.search(word) or is_strong(word) or _PHRASE_WORD.search(word)) and not is_code(word)
        for word in words
    ):
        return True
    if not any(any(map(str.isdigit, word)) for word in words) or len(words) > _MAX_WORDS:
        return False
    return literal or (len(words) > 2 and all(map(_is_plain_word, words)))


def _is_plain_word(word: str) -> bool:
    return word.isascii() and word.isalnum() and word == word.lower() and word not in _SENTENCE


def is_field_secret(value: str) -> bool:
    """Return whether a whole string that is the value of a secret's name is a secret: nearly every string is.

    >>> [is_field_secret(value) for value in ("hunter2", "string", "your-key", "form.password", "a $b9 c")]
    [True, False, False, False, False]
    """
    if any(map(str.isdigit, value)):
        value = without_sign(value)
    if len(value) < 4 or is_stand_in(value):
        return False
    if any(map(str.isspace, value)):
        return is_phrase(value)
    return is_password(value) or _is_random(value) or value.isalnum() or not is_name(value)
