"""Redaction of passwords with any characters: in every notation, after any flag, in any file with one."""

import json
import random

import pytest

from sttx_ccsniff.redact import PLACEHOLDER, Redactor
from sttx_ccsniff.redact.words import Words
from sttx_core.traces import Meta, Other, ToolUse, UserMessage

META = Meta(session="s")
ODD = ("w$3(x{9<Kq", "p5}Yd)2>Fm", "$aB3$dK9w", "z2|Hc~7*Gs")


@pytest.fixture(scope="module", autouse=True)
def redactor(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        made = Redactor()
        made.redact(UserMessage(meta=META, text="TOKEN=q7Zk2mX9vB4tR8wL"))  # loads the key
        yield made


@pytest.fixture
def clean(redactor):
    return lambda text: redactor.redact(UserMessage(meta=META, text=text)).text


# --- any characters

QUOTED = """
password = "·"
password: '·'
"password": "·"
{"user": "a", "password": "·", "host": "b"}
const dbPassword = `·`;
String password = "·";
define('DB_PASSWORD', '·');
$config['password'] = '·';
os.environ.setdefault("DB_PASSWORD", "·")
process.env.DB_PASSWORD || '·'
client.setPassword("·")
<add key="Password" value="·"/>
<password>·</password>
<key>password</key><string>·</string>
- name: DB_PASSWORD\\n  value: "·"
ALTER USER app PASSWORD '·';
CREATE USER app IDENTIFIED BY '·';
the password is “·”
SECRET_KEY = '·django9Zk2mXvB4tRwL'
requests.get(url, auth=("deploy", "·"))
new NetworkCredential("deploy", "·")
curl -u 'deploy:·' https://x.io
mysql -p'·' -u app
docker login -u app -p "·" registry.x.io
sshpass -p '·' ssh h
["redis-cli", "-a", "·"]
["mysqldump", "-u", "app", "-p·"]
["--password", "·"]
ConvertTo-SecureString "·" -AsPlainText -Force
echo '·' | docker login --password-stdin
пароль: "·"
"""
UNQUOTED = """
password=·
DB_PASSWORD=·
export DB_PASSWORD=· # for staging
db.password = ·
  password: ·
- password: ·
mysql --password=· -u app
app --password · run
app -Password · -Force
redis-cli -a · ping
redis-server --requirepass · --port 1
requirepass ·
postgres://app:·@db.x.io:5432/main
"redis://:·@cache:6379/0"
DATABASE_URL='mysql://app:·@db/main'
Server=db;User ID=app;Password=·;Timeout=9
machine x.io login app password ·
machine x.io\\n  login app\\n  password ·
пароль: ·
密码：·
contraseña: ·
my password is · for now
"""


def forms():
    """Yield each notation with a password: with all of them where nothing closes the value, else with one."""
    for form in UNQUOTED.strip().splitlines():
        yield from ((form, secret) for secret in ODD)
    for number, form in enumerate(QUOTED.strip().splitlines()):
        yield form, ODD[number % len(ODD)]


@pytest.mark.parametrize(("form", "secret"), list(forms()))
def test_a_password_may_hold_any_character(clean, form, secret):
    text = form.replace("\\n", "\n").replace("·", secret)
    for shown in (text, json.dumps({"out": json.dumps({"out": text})})):
        left = clean(shown)
        assert secret[:-1] not in left.replace("\\", "")
        assert "[REDACTED secret " in left


# --- programs, headers, files and statements

KNOWN = r"""
az login --service-principal -u a -p ·|mK7tW2qRz$
podman login registry.x.io --username a -p ·|mK7tW2qRz
mysql -uapp -p·  main|mK7tW2qRz
/usr/bin/mysqldump -p· main|tulips99!
docker exec -i db mariadb -uroot -p· < dump.sql|mK7tW2qRz
bash -lc "redis-cli -h cache -a · ping"|mK7tW2qRz
mongosh -u app -p · --host db|mK7tW2qRz
ldapsearch -x -D cn=a -w · -b dc=x|mK7tW2qRz
smbclient -U 'app%·' //h/s|mK7tW2qRz
openssl enc -aes-256-cbc -pass pass:· -in a|mK7tW2qRz
openssl rsa -in k.pem -passin pass:·|mK7tW2qRz
zip -P · a.zip a|mK7tW2qRz
7z a -p· a.7z a|mK7tW2qRz
twine upload -u a -p · dist/x|mK7tW2qRz
keytool -genkey -storepass · -alias a|mK7tW2qRz
sqlcmd -S h -U sa -P · -Q x|mK7tW2qRz
gpg --batch --passphrase · -d a.gpg|mK7tW2qRz
wget --user=a --password=· https://x.io|mK7tW2qRz
lftp -u app,· ftp.x.io|mK7tW2qRz
http -a app:· x.io|mK7tW2qRz
htpasswd -bc .htpasswd ada ·|mK7tW2qRz
echo "app:·" | chpasswd|mK7tW2qRz
echo · | sudo -S ls|mK7tW2qRz
sqlplus app/·@main|KW41TQ7ZB9
ConvertTo-SecureString '·' -AsPlainText|KW41TQ7ZB9
kubectl get pods --token=·|q7Zk2mX9vB4tR8wL
kubectl create secret generic a --from-literal=db=·|mK7tW2qRz
cmdkey /add:h /user:a /pass:·|mK7tW2qRz
$env:DB_PASSWORD = "·"|mK7tW2qRz
set -x DB_PASSWORD ·|mK7tW2qRz
mysql \\n  --host db \\n  -p· main|mK7tW2qRz
pip install --index-url https://app:·@pypi.x.io/simple a|mK7tW2qRz
git clone https://app:·@git.x.io/a.git|mK7tW2qRz
_auth=·|ZGVwbG95OnE3WmsybVg5dkI0
"auth": "·"|ZGVwbG95OnE3WmsybVg5dkI0
//registry.x.io/:_authToken=·|q7Zk2mX9vB4tR8wL
Authorization: Digest username="a", response="·"|8ca523f5e9506fed4657c9700eebdbec
Proxy-Authorization: Negotiate ·|YIIJvwYGKwYBBQUCoIIJszCC
psql "postgresql://app@db/main?password=·"|mK7tW2qRz
Set-Cookie: sid=·; Path=/; HttpOnly|s3A8xq92mZk41vTw
client-key-data: ·|LS0tLS1CRUdJTiBSU0EgUFJJ
"client-key-data": "·"|LS0tLS1CRUdJTiBSU0EgUFJJ
ada:$apr1$q7Zk2mX9$·:x|Bv4tR8wLq7Zk2mX9vB4tR8
SCRAM-SHA-256$4096:q7Zk2mX9$·|Bv4tR8wLq7Zk2mX9vB4tR8wLq7Zk2mX9
${DB_PASSWORD:-·}|mK7tW2qRz
password: |\n  ·\n|mK7tW2qRz
mot_de_passe = ·|mK7tW2qRz
Passwort: ·|mK7tW2qRz
kennwort=·|mK7tW2qRz
senha: ·|mK7tW2qRz
wachtwoord: ·|mK7tW2qRz
hasło: ·|mK7tW2qRz
şifre: ·|mK7tW2qRz
lösenord: ·|mK7tW2qRz
пароль — ·|mK7tW2qRz
парола: ·|mK7tW2qRz
密码是·|mK7tW2qRz
パスワード：·|mK7tW2qRz
비밀번호: ·|mK7tW2qRz
סיסמה: ·|mK7tW2qRz
كلمة المرور: ·|mK7tW2qRz
κωδικός: ·|mK7tW2qRz
mật khẩu: ·|mK7tW2qRz
seed phrase: ·|legal winner thank year wave sausage worth useful legal winner thank yellow
"""


@pytest.mark.parametrize("row", KNOWN.strip().splitlines())
def test_the_place_says_what_a_secret_is(clean, row):
    form, _, secret = row.rpartition("|")
    text = form.replace("\\n", "\n").replace("·", secret)
    for shown in (text, json.dumps({"out": text})):
        left = clean(shown)
        assert secret.strip("$") not in left
        assert clean(left) == left


BETWEEN_MARKS = r"""
PGPASSWORD=w7(kLq psql -h db|w7(kLq
DB_PASSWORD=Vd{kq4 make test|Vd{kq4
MYSQL_PWD=gT5<w>L2 mysql main|gT5<w>L2
docker run -e DB_PASSWORD=gT5(w)L2 img|gT5(w)L2
docker run --env db_password=gT5[w]L2 img|gT5[w]L2
env DB_PASSWORD=gT5{w}L2 cmd|gT5{w}L2
export db_password=gT5(wL2 other=1|gT5(wL2
app --password gT5(w)L2 run|gT5(w)L2
jdbc:postgresql://h/d?user=u&password=gT5(wL2&ssl=true|gT5(wL2
contraseña: gT5(w)L2 para hoy|gT5(w)L2
psql "host=db user=app password=Wq7nTz4k dbname=main"|Wq7nTz4k
psql 'password=gT5(w)L2' -c x|gT5(w)L2
connect("host=db user=app password=gT5(wL2")|gT5(wL2
connect("password=Wq7nTz4k host=db")|Wq7nTz4k
dsn: host=db user=app password=n0rth&9s dbname=main|n0rth&9s
dsn: host = db password = gT5(w)L2 dbname = main|gT5(w)L2
password: "<gT5wL2mz>"|gT5wL2mz
{"passwd": "{gT5wL2mz}"}|gT5wL2mz
password = "%gT5wL2m%"|gT5wL2m
amqp://app:<w4rbl3r>@mq/|w4rbl3r
mysql -p"<gT5wL2mz>" -u app|gT5wL2mz
mysql -p'$w4rbl3rX' -u app|w4rbl3rX
mysql -p'$warblersX' -u app|warblersX
{"password": "$w4rbl3rX"}|w4rbl3rX
{"password": "$warbler99"}|warbler99
password = '$warbler99'|warbler99
echo w4rbl3r | sudo -k -S ls|w4rbl3r
echo w4rbl3r | sudo -u root -kS ls|w4rbl3r
echo w4rbl3r | passwd app --stdin|w4rbl3r
My password is w4rbl3r|w4rbl3r
my password is gT5(wL2|gT5(wL2
the root password was now gT5{w}L2, sorry|gT5{w}L2
The password is **warbler99**.|warbler99
the password is: warbler99|warbler99
"""


@pytest.mark.parametrize("row", BETWEEN_MARKS.strip().splitlines())
def test_marks_do_not_make_a_password_a_reference(clean, row):
    text, _, secret = row.rpartition("|")
    for shown in (text, json.dumps({"out": text}, ensure_ascii=False)):
        assert secret not in clean(shown)


@pytest.mark.parametrize("secret", ["<gT5wL2mz>", "{gT5wL2mz}", "%gT5wL2m%", "$w4rbl3rX", "$warbler99"])
def test_marks_in_a_tools_input(redactor, secret):
    trace = redactor.redact(ToolUse(meta=META, name="x", input={"password": secret}))
    assert PLACEHOLDER.fullmatch(trace.input["password"])


NOT_SECRETS = """
docker login -u app --password-stdin
mysql -u root -p main
mysql -p"$DB_PASSWORD" -u app
mysql -p${DB_PASSWORD} -u app
docker run -p 8080:80 -u 1000:1000 nginx
docker login -p $TOKEN registry.x.io
redis-cli -p 6379 -a "$REDIS_PASSWORD"
mkdir -p build/mysql2 && cp -a src2 dest3
curl -u "$USER:$PASS" https://x.io
curl -u user:password https://x.io
password=%DB_PASSWORD%
password: {{ vault_password }}
password: <your-password>
PASSWORD=$(pass show db/main2)
password = `cat /run/secrets/db2`
postgres://${DB_USER}:${DB_PASSWORD}@db/main
postgres://{user}:{password}@db/main
password: Option<String>,
password={form.password}
const password = hashPassword(user.password2, salt);
  password: z.string().min(8),
password varchar(255) not null
"password": "must be at least 8 characters"
Authorization: Bearer $TOKEN
Authorization: Bearer <token>
Authorization headers are required since v2
cookie: theme=dark
const cookies = parseCookies2(request)
echo $TOKEN | docker login --password-stdin
the login form2 asks for a name
the new token: eyJ0eXAiOiJKV1QiLCJhbGciOiJ...
IDENTIFIED BY '<password>'
s/(\\w+)-(\\d+)/$1$2$3/
PASSWORD=hash(user, salt2)
<Login user={user} password={user.pass2 || none} />
connect(host=host, password=load(name), port=5432)
psql "host=db user=app password=$DB_PASSWORD dbname=main"
local user=$1 password=$2
"password": "$DB_PASSWORD2"
password: "<base64-value>"
password: "{db2_password}"
password: "%DB2_PASSWORD%"
mysql -p'$DB_PASSWORD' -u app
the password is hashed with SHA256
the password is sha256-hashed, the other is bcrypt(12)
my password is wrong!
the password is admin@x2.example.org
the password was v2 of the form
echo done | sudo tee -a /etc/a2
"""


@pytest.mark.parametrize("line", NOT_SECRETS.strip().splitlines())
def test_references_and_code_stay(clean, line):
    assert clean(line) == line


def test_a_tools_input(redactor):
    arguments = ["-u", "app", "-pmK7tW2qRz", "--token", "tulips$9x"]
    given = {
        "password": "n4{Jk8wZ",
        "passwords": ["tulips", "v9(Lp3xQ"],
        "pin_password": 48151623,
        "env": [{"key": "DB_PASSWORD", "value": "h6<Tz2bV"}],
        "command": ["mysql", *arguments],
        "list": ["docker", "login", "-p", "mK7tW2qRz"],
        "пароль": "tulips",
        "text": 'password = "aB$3x\'Y"',
        "kept": ["ls", "-la"],
        "also_password": "$DB_PASSWORD",
    }
    trace = redactor.redact(ToolUse(meta=META, name="x", input=given))
    assert isinstance(trace, ToolUse)
    left = json.dumps(trace.input, ensure_ascii=False)
    for secret in ("n4{", "tulips", "v9(", "48151623", "h6<", "mK7", "$9x", "aB$3", "'Y"):
        assert secret not in left, secret
    assert trace.input["kept"] is given["kept"]
    assert trace.input["also_password"] == "$DB_PASSWORD"
    assert PLACEHOLDER.fullmatch(trace.input["password"])


WORDS_AFTER = """
password=hunter2secret foo
log in with password=hunter2 and go on
DB_PASSWORD=hunter2secret ./run --all
the password: hunter2secret works, try it
export API_KEY=abcd1234efgh5678ijkl
export API_KEY=abcd1234efgh5678ijkl && make
api_key=abcd1234efgh5678ijkl is still valid
{"api_key": "abcd1234efgh5678ijkl"}
curl -H 'x-api-key: abcd1234efgh5678ijkl' http://h/x
"""


@pytest.mark.parametrize("line", WORDS_AFTER.strip().splitlines())
def test_letters_and_digits_with_words_after_them(clean, line):
    shown = clean(line)
    assert "REDACTED" in shown and "hunter2" not in shown and "abcd1234" not in shown
    words = ("foo", "and go on", "--all", "works, try it", "&& make", "is still valid", "http://h/x")
    assert all(word in shown for word in words if word in line)


@pytest.mark.parametrize(
    "line",
    [
        "password=md5 hash of it",
        "login(password=password2 if old else new)",
        "if password=secret2 then",
        "password: base64url encoded",
        "password: h2o is a stand-in",
        "API_KEY=claude3opus20240229",
        "pwd=/srv/app1/x is the folder",
    ],
)
def test_names_and_formats_with_words_after_them_stay(clean, line):
    assert clean(line) == line


def test_a_quote_within_a_value_does_not_close_it(redactor, clean):
    inner = json.dumps({"password": 'q"7$Zk2"mX9v', "host": "b"})
    for text in (inner, json.dumps({"out": inner}), json.dumps([json.dumps({"out": inner})])):
        left = clean(text)
        assert "mX9v" not in left and "Zk2" not in left and "host" in left
    left = redactor.redact(Other(meta=META, kind="x", raw={"a": [inner]})).raw
    assert "mX9v" not in repr(left)
    assert "9vB4" not in clean("PGPASSWORD='q7'\\''Zk9vB4' psql")


def test_the_search_for_words_finds_what_a_comparison_at_every_position_does():
    dice = random.Random(3)
    for size in (3, 60, 2000):
        words = {bytes(dice.choices(b"aabck-? ", k=dice.randint(1, 6))) for _ in range(20)}
        low = bytes(dice.choices(b"aabck-? x", k=size))
        expected = [(at, word) for at in range(size) for word in words if low.startswith(word, at)]
        assert sorted(Words(words).find(low)) == sorted(expected)
