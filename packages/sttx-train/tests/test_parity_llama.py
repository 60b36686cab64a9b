"""Log-probabilities and greedy texts equal llama.cpp's, from the models and slots that we export."""

import contextlib
import importlib.util
import json
import pathlib
import urllib.request

import pytest
import torch

from sttx_core.errors import ModelError, UsageError
from sttx_core.tokenizers import ByteTokenizer, TrieTokenizer
from sttx_train import load_model
from sttx_train.export import export_model, export_slot, model_to_export
from sttx_train.formats import TunedState, save_model
from sttx_train.formats.state import OPENING
from sttx_train.rwkv7 import RecurrentState

LIMIT = 1e-3
TEXT = "User: Please fix the failing test.\n\nAssistant:"


class Llama:
    """Asks a server. Every answer is by one slot, in one thread."""

    def __init__(self, address):
        self._address = address

    def post(self, path, **body):
        """Return the object that a POST is answered with."""
        request = urllib.request.Request(
            f"{self._address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)

    def tokenize(self, text):
        """Return the ids of a text."""
        return self.post("/tokenize", content=text)["tokens"]

    def complete(self, prompt, count, *, vocab_size, most=300, cached=False):
        """Return greedy ids, the log-probabilities of each step ``[T, V]``, and how many ids were reused.

        Those beyond so many are NaN.
        """
        answer = self.post(
            "/completion",
            prompt=prompt,
            n_predict=count,
            temperature=0,
            n_probs=min(vocab_size, most),
            ignore_eos=True,
            return_tokens=True,
            cache_prompt=cached,
            id_slot=0,
        )
        said = torch.full((count, vocab_size), float("nan"))
        for row, step in enumerate(answer["completion_probabilities"]):
            for choice in step["top_logprobs"]:
                said[row, choice["id"]] = choice["logprob"]
        return answer["tokens"], said, answer["timings"]["cache_n"]

    def slot(self, action, name):
        """Save the slot to a file, or restore it from one."""
        return self.post(f"/slots/0?action={action}", filename=name)


@contextlib.contextmanager
def running(xllamacpp, path, slots):
    """Run a server of a model while the block runs."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers, params.port = 512, 1, 0, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.fit_params = params.ctx_shift = False
    params.verbosity = -1
    params.hostnames, params.slot_save_path = ["127.0.0.1"], f"{slots}/"
    server = xllamacpp.Server(params)
    try:
        yield Llama(server.listening_address)
    finally:
        del server


@pytest.fixture(scope="module")
def xllamacpp():
    """Return the package that runs llama.cpp in this process."""
    return pytest.importorskip("xllamacpp", reason="llama.cpp is not installed")


@pytest.fixture(scope="module")
def of_bytes(make_model, tmp_path_factory):
    """Return a random model over bytes with two layers and two heads of 64. It writes ASCII alone.

    A server leaves the probabilities of a token out until the character is complete.
    """
    path = tmp_path_factory.mktemp("models") / "bytes"
    sizes = {"vocab_size": 257, "hidden_size": 128, "num_layers": 2, "head_size": 64}
    model = make_model(**sizes)
    with torch.no_grad():
        model.head.weight[129:] = 0
    save_model(model, path, tokenizer=ByteTokenizer())
    return load_model(path)


@pytest.fixture(scope="module")
def serve(xllamacpp, tmp_path_factory):
    """Return a function that exports a model and runs a server of it."""

    def server(loaded, dtype="float32"):
        folder = tmp_path_factory.mktemp("gguf")
        export_model(model_to_export(loaded), folder / "model.gguf", "gguf", dtype)
        return running(xllamacpp, folder / "model.gguf", folder), folder

    return server


def greedy(loaded, prompt, count, state=None):
    """Return our greedy ids after a prompt, and the log-probabilities of each step ``[T, V]``."""
    ids, said, given = [], [], torch.tensor([prompt])
    with torch.inference_mode():
        for _ in range(count):
            logits, state = loaded.model(given, state)
            said.append(logits[0, -1].log_softmax(-1))
            ids.append(int(said[-1][1:].argmax()) + 1)  # the end of text is ignored on both sides
            given = torch.tensor([[ids[-1]]])
    return ids, torch.stack(said)


def difference(theirs, ours):
    """Return the largest difference of log-probabilities, relative to the largest of each step.

    Theirs leave out the end of text, so the sums differ.
    """
    theirs[:, 0] = float("nan")
    known = ~theirs.isnan()
    assert known.sum(-1).min() >= 256, "the server has left steps out"
    both = [x.masked_fill(~known, -1e9) for x in (theirs, ours)]
    one, other = (x - x.max(-1, keepdim=True).values for x in both)
    return float((one - other)[known].abs().max())


def test_a_model_over_bytes(serve, of_bytes):
    server, _ = serve(of_bytes)
    prompt = [0, *of_bytes.tokenizer.encode(TEXT)]
    ours, said = greedy(of_bytes, prompt, 12)
    with server as llama:
        assert [0, *llama.tokenize(TEXT)] == prompt
        theirs, their_said, _ = llama.complete(prompt, 12, vocab_size=257)
    assert said.std() > 0.5  # a silent model would agree with anything
    assert difference(their_said, said) < LIMIT
    assert theirs == ours


def test_the_embedded_model_and_its_trie(serve):
    loaded = load_model()
    server, _ = serve(loaded)
    odd = "naïve\ttab \\n 'quotes' \"two\" 中文 \u200b\r\nend [PAD7] <s"
    prompt = [0, *loaded.tokenizer.encode(TEXT)]
    ours, said = greedy(loaded, prompt, 64)
    with server as llama:
        assert llama.tokenize(odd) == loaded.tokenizer.encode(odd)
        assert llama.tokenize(f"<s>{TEXT}") == prompt
        theirs, their_said, _ = llama.complete(prompt, 64, vocab_size=4096)
        chat = llama.post("/apply-template", messages=[{"role": "user", "content": " Please fix. "}])
    assert theirs == ours
    assert difference(their_said, said) < LIMIT
    assert chat["prompt"] == "User: Please fix.\n\nAssistant:"


@pytest.mark.parametrize(("dtype", "limit"), [("float16", 0.05), ("q8_0", 0.5)])
def test_smaller_numbers_are_near(serve, of_bytes, dtype, limit):
    server, folder = serve(of_bytes, dtype)
    prompt = [0, *of_bytes.tokenizer.encode("The file")]
    _, said = greedy(of_bytes, prompt, 1)
    with server as llama:
        _, their_said, _ = llama.complete(prompt, 1, vocab_size=257)
    assert LIMIT / 100 < difference(their_said, said) < limit
    assert (folder / "model.gguf").stat().st_size < 0.8 * 4 * sum(
        p.numel() for p in of_bytes.model.parameters()
    )


def test_the_world_vocabulary(serve, make_model, tmp_path):
    spec = importlib.util.find_spec("rwkv")
    if spec is None or spec.origin is None:
        pytest.skip("the package that ships the World vocabulary is not installed")
    vocabulary = TrieTokenizer(pathlib.Path(spec.origin).with_name("rwkv_vocab_v20230424.txt"))
    sizes = {"vocab_size": 65536, "hidden_size": 64, "num_layers": 1, "head_size": 64}
    save_model(make_model(**sizes), tmp_path / "world", tokenizer=vocabulary)
    loaded = load_model(tmp_path / "world")
    server, _ = serve(loaded)
    text = "Käse und 中文, \u00a0naïve code:\n\tdef f(x):\n\t\treturn '\\\\' # ok\r\n" + TEXT
    prompt = [0, *loaded.tokenizer.encode(text)]
    _, said = greedy(loaded, prompt, 1)
    with server as llama:
        assert [0, *llama.tokenize(text)] == prompt
        _, their_said, _ = llama.complete(prompt, 1, vocab_size=65536)
    assert difference(their_said, said) < LIMIT


class TestSlots:
    @pytest.fixture
    def s0(self):
        return 5 * torch.randn(2, 2, 64, 64, generator=torch.Generator().manual_seed(1))

    def exported(self, llama, folder, loaded, state, name):
        llama.post("/completion", prompt=[0], n_predict=0, id_slot=0, cache_prompt=True)
        llama.slot("save", f"fresh-{name}")
        export_slot(state, loaded, folder / f"fresh-{name}", folder / name)
        llama.complete([5, 6, 7], 1, vocab_size=257)  # whatever the slot held is gone
        llama.slot("restore", name)

    @pytest.mark.parametrize("opening", ["eot", "text"])
    def test_a_restored_slot_continues_from_the_state(self, serve, of_bytes, s0, opening):
        server, folder = serve(of_bytes)
        ids = of_bytes.tokenizer.encode("User: hello")
        start = RecurrentState.zeros(of_bytes.model.config).inject(s0)
        ours, said = greedy(of_bytes, [0, *ids] if opening == "eot" else ids, 8, start)
        _, untuned = greedy(of_bytes, [0, *ids], 8)
        state = TunedState(s0=s0, metadata={OPENING: opening})
        with server as llama:
            self.exported(llama, folder, of_bytes, state, "mine.bin")
            theirs, their_said, reused = llama.complete([0, *ids], 8, vocab_size=257, cached=True)
            self.exported(llama, folder, of_bytes, TunedState(s0=s0.mT.contiguous()), "transposed.bin")
            _, transposed, _ = llama.complete([0, *ids], 8, vocab_size=257, cached=True)
        assert reused == 1
        assert theirs == ours
        assert difference(their_said, said) < LIMIT
        assert difference(their_said, untuned) > 0.1
        assert difference(transposed, said) > 0.1

    def test_another_slot_is_refused(self, serve, of_bytes, s0, make_model, tmp_path):
        server, folder = serve(of_bytes)
        with server as llama:
            llama.post("/completion", prompt=[0, 5], n_predict=0, id_slot=0, cache_prompt=True)
            llama.slot("save", "longer.bin")
        state = TunedState(s0=s0)
        with pytest.raises(ModelError, match="holds another model or prompt"):
            export_slot(state, of_bytes, folder / "longer.bin", tmp_path / "out.bin")
        with pytest.raises(ModelError, match="cannot read"):
            export_slot(state, of_bytes, folder / "gone.bin", tmp_path / "out.bin")
        with pytest.raises(UsageError, match="the state is"):
            export_slot(TunedState(s0=s0[:1]), of_bytes, folder / "longer.bin", tmp_path / "out.bin")
        assert not (tmp_path / "out.bin").exists()
