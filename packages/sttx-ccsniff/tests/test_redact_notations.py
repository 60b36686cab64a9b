"""Redaction of passwords in connection strings, variables, flags, pairs and sentences; code stays."""

import json

import pytest

from sttx_ccsniff.redact import Redactor
from sttx_core.traces import Meta, ToolUse, UserMessage

META = Meta(session="s")
ODD = ("w{3}x$(9)K", "Autumn$(2031)", "a<b>c7(d)", "R7{e}{f}gh")


@pytest.fixture(scope="module", autouse=True)
def redactor(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STTX_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        made = Redactor()
        made.redact(UserMessage(meta=META, text="TOKEN=q7Zk2mX9vB4tR8wL"))  # loads the key
        yield made


@pytest.fixture
def shown(redactor):
    """Return what is left of a text: as it is, in JSON in JSON, and in a tool's input."""

    def clean(text):
        nested = json.dumps({"out": json.dumps({"out": text})})
        made = redactor.redact(ToolUse(meta=META, name="x", input={"command": text}, id="")).input
        return [
            redactor.redact(UserMessage(meta=META, text=text)).text,
            redactor.redact(UserMessage(meta=META, text=nested)).text.replace("\\", ""),
            made["command"],
        ]

    return clean


BRACKETS = """
Server=db;Database=main;User Id=ada;Password=·;
Password=·;
Server=db;Uid=ada;Pwd=·;Encrypt=True
Driver={ODBC};Server=db;UID=ada;PWD=·;
"ConnectionStrings": {"Main": "Server=db;User Id=ada;Password=·;"}
DB_PASSWORD=·
export MYSQL_PWD=·
password: ·
db.password = ·
- name: DB_PASSWORD\\n  value: ·
password:\\n  value: ·
http POST x.io user=ada password=·
curl -d "user=ada&password=·" x.io
our wifi password: ·
<entry key="password">·</entry>
<name>db.password</name><value>·</value>
"""


@pytest.mark.parametrize("form", BRACKETS.strip().splitlines())
def test_brackets_do_not_make_a_password_code(shown, form):
    for secret in ODD:
        for left in shown(form.replace("\\n", "\n").replace("·", secret)):
            assert secret[1:] not in left
            assert "[REDACTED secret " in left


PLAIN = """
DB_PASSWORD=Autumn(2031)
docker run -e POSTGRES_PASSWORD=Autumn(2031) pg
Server=db;Uid=ada;Password=Autumn(2031);
REDISCLI_AUTH=·
redis-cli -h cache --pass · ping
app --pass · run
npm config set _auth YWRhOm1LN3RXMnFSeg==
npm config set //r.x.io/:_password ·
pip config set global.password ·
setx DB_PASSWORD ·
helm upgrade a b --set db.auth.password=· --wait
helm upgrade a b --set x=y,db.password=·
terraform apply -var db_password=· -auto-approve
terraform apply -var 'db_password=·'
docker run --env db_password=· pg
docker build --build-arg db_password=· .
az deployment group create --parameters adminPassword=·
aws cloudformation deploy --parameter-overrides ParameterKey=DbPassword,ParameterValue=·
vault kv put kv/db password=·
mount -t cifs //h/s /m -o username=ada,password=·
host=db,password=·
user=ada,password=·,host=db
auth:{user:"ada",pass:"·"}
auth: { user: 'ada', pass: '·' },
user: ada\\npass: ·
winscp /user:ada /password:·
sudo -S ls <<< ·
docker secret create db - <<< '·'
echo '·' | kinit ada
"·" | ConvertTo-SecureString -AsPlainText -Force
ConvertTo-SecureString -AsPlainText "·" -Force
az sql server create -n a -u ada -p ·
dotnet nuget add source x -u ada -p ·
impdp system/·@db full=y
rclone config create x webdav user ada pass ·
nmcli dev wifi connect HOME password ·
qpdf --encrypt first8W · 256 -- a.pdf b.pdf
DriverManager.getConnection(url, "ada", "·")
redis.auth("·")
page.fill('input[name="password"]', '·')
find_element(By.ID, "password").send_keys("·")
password <- "·"
SecretStr("·") if x else password=SecretStr("·")
variable "db_password" {\\n  default = "·"\\n}
{"password": {"type": "string", "value": "·"}}
{"db": {"credentials": [\\n{"user": "ada", "value": "·"}]}}
{"name": "Cookie", "value": "id=v8Rq27mZk41xTw90"}
| password | · |
set the password to ·
please change the root password to ·, thanks
I reset it: password changed to ·.
the password for ada is ·
my password = ·
initial admin password = ·
log in as ada with password · please
use `·` as the password
Admin password: **·**
credentials: ada / ·
password (staging): ·
"""


@pytest.mark.parametrize("form", PLAIN.strip().splitlines())
def test_the_place_says_that_it_is_a_password(shown, form):
    text = form.replace("\\n", "\n").replace('SecretStr("·") if x else ', "")
    for left in shown(text.replace("·", "mK7tW2qRz")):
        assert "[REDACTED " in left
        for secret in ("mK7tW2qRz", "Autumn(", "YWRhOm1L", "v8Rq27mZk"):
            assert secret not in left


PHRASES = """
PASSWORD="·"
export DB_PASSWORD='·'
mysql --password="·" main
az login --service-principal -u a --password="·"
-e "DB_PASSWORD=·"
Server=db;Password=·;Uid=ada
"""


@pytest.mark.parametrize("form", PHRASES.strip().splitlines())
@pytest.mark.parametrize("secret", ["My 77 tulips", "three small $7k words", "mK7 $tW2q"])
def test_passwords_of_several_words(shown, form, secret):
    for left in shown(form.replace("·", secret)):
        assert secret not in left
        assert secret.split()[-1] not in left


PLACES = """
mycli -u ada -p '·'
impacket-psexec corp/ada:'·'@10.0.0.3
secretsdump.py 'corp/ada:·@10.0.0.3'
ansible-vault encrypt_string '·' --name db
sonar-scanner -Dsonar.login='·'
netlify deploy --auth '·'
printf '·\\n·\\n' | sudo passwd ada
das Passwort ist ·
le mot de passe est ·
логин ada пароль ·
密码 ·
kata sandi: ·
db password - ·
aws configure set aws_secret_access_key '·'
"""


@pytest.mark.parametrize("form", PLACES.strip().splitlines())
def test_further_programs_and_languages(shown, form):
    for left in shown(form.replace("\\n", "\n").replace("·", "tK4$w(8)q")):
        assert "tK4" not in left


@pytest.mark.parametrize("before", ["ENV API_KEY", "setx CI_TOKEN", "git config --global ada.token"])
def test_quoted_values_that_a_command_sets(shown, before):
    for left in shown(f'{before} "q7Zk2mX9vB4tR8wLp3"'):
        assert "q7Zk2mX9" not in left


HARMLESS = r"""
'password' => 'required|string|min:8',
password - the new one of 2031
key - 1
пароль от базы
mot de passe est requis
setx CI_TOKEN "%TOKEN%"
password = request.form["password"]
password=Autumn(2031)
connect(user, password=Autumn(2031))
password = hash(2031)
password=f(a)||g(b)
password: Map<string, Vec<u8>>,
password = x ? f(a)[0] : g(b)
const password = await hash(body.password2, 10);
{kind:"method",key:"togglePassword",value:function(){this.p=!this.p}},{kind:"field"}
switch(x){case"password":return E(e,{email:this._email2,kind:"x"})}
applicationServerKey:base64ToArray(t)})}(e.swRegistration,e.vapidKey2),n={a:1}
pass: true
"pass": "12 of 14"
--- PASS: TestLogin2 (0.00s)
pass: simplify2
auth: { user: process.env.U, pass: process.env.P2 }
jest --pass-with-no-tests
--password "$PASSWORD"
--password="$A $B"
PASSWORD="$(cat /run/secrets/db2)"
PASSWORD="${PREFIX} ${SUFFIX2}"
"password": "Must be 8 to 64 characters"
"password": "at least 8 chars"
Server=db;Password=$(DbPassword);
Password={0};
connect(host=host,password=pw2,port=5432)
helm upgrade a b --set auth.password=$PW2
helm upgrade a b --set auth.existingSecret=my-secret2
terraform apply -var "db_password=${var.pw2}"
npm config set _auth $NPM_AUTH2
#define CKA_SECONDARY_AUTH 0x00000200UL
- name: DB_PASSWORD\n  value: $(DB_PASSWORD)
password:\n  type: string\n  minLength: 8
| password | varchar(255) | no |
| password | string | yes |
set the password to base64
change the password to continue
the password for ada is stored
use password auth2
my password = getpass()
my $password = $x2;
String password = salt2
HTTP_AUTH=oauth2
authentication: ["token", "oAuth2"]
sudo -s <<< "apt install x2"
$pw2 | ConvertTo-SecureString
password (str): the user's2
credentials: "include"
credentials = "service-account2.json"
"""


@pytest.mark.parametrize("line", HARMLESS.strip().splitlines())
def test_code_references_and_messages_stay(redactor, line):
    text = line.replace("\\n", "\n")
    for given in (text, json.dumps({"out": text}), f"first\n  {text}\nlast"):
        assert redactor.redact(UserMessage(meta=META, text=given)).text == given
