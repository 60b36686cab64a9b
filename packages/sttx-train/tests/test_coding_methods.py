"""Methods: parsed, printed back canonically, made of levels and options, and refused without effect."""

import pytest

from sttx_core.errors import UsageError
from sttx_train.coding import method, method_of
from sttx_train.coding.method import Method
from sttx_train.coding.random_model import RandomModel
from sttx_train.rwkv7.config import RWKV7Config

ALWAYS = ";policy:schedule=0..:train"
DEFAULT = ";policy:schedule=0..:train(lr=0.03)"
CANONICAL = {
    "experts": (),
    "experts[primed]": (),
    "mini": ("frozen",),
    "mini+experts": ("frozen",),
    "mini+experts[primed]": ("frozen",),
    "mini[learned]": ("learned",),
    "mini[learned]+mini+experts": ("learned", "frozen"),
    "file:a folder/m.pth+experts": ("frozen",),
    "file:a+b[learned]+file:a+b+experts[primed]": ("learned", "frozen"),
    "file:m;policy:schedule=0..10%:train(scope=all,lr=0.01);10%..:infer": ("learning",),
    "mini+mini+experts;policy:schedule=0..:train;load_from=a run": ("learning", "frozen"),
    "cfg:hidden=64,layers=2,intermediate=128,decay_rank=8,seed=7,train=adam,lr=0.003,stride=2": ("learning",),
    "cfg:hidden=64,layers=2;policy:schedule=0..:train(scope=all,opt=sgd,momentum=0.9)": ("learning",),
}


@pytest.mark.parametrize("text", CANONICAL)
def test_a_canonical_text_is_printed_back(text):
    parsed = Method.parse(text)
    assert str(parsed) == text and parsed.networks == CANONICAL[text]
    assert parsed.profile == ("native" if "learning" in parsed.networks else "portable")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" mini+experts ", "mini+experts"),
        ("cfg:64,0,2,sgd,0,0.10", "cfg:hidden=64,layers=2,train=sgd,lr=0.1"),
        (
            "cfg:64,128,2,adam,7,0.1,3",
            "cfg:hidden=64,layers=2,intermediate=128,seed=7,train=adam,lr=0.1,stride=3",
        ),
        ("cfg:layers=2, hidden=64, train=sgd+experts", "cfg:hidden=64,layers=2,train=sgd+experts"),
        ("mini;policy: schedule = 0 .. : train( scope=s0 )", "mini;policy:schedule=0..:train(scope=state)"),
    ],
)
def test_other_texts_have_a_canonical_one(text, canonical):
    assert str(Method.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("magic", "'magic' is unknown"),
        ("", "unknown"),
        ("experts+mini", "unknown"),
        ("file:", "network cannot be 'file:'"),
        (f"experts{ALWAYS}", "no network that could learn"),
        ("mini+mini", "add .experts"),
        ("mini[primed]", "unknown"),
        ("mini+mini+experts", "says the same"),
        (f"mini[learned]+experts{ALWAYS}", "load_from"),
        (f"cfg:hidden=64,layers=1,train=adam{ALWAYS}", "give one of them"),
        ("cfg:hidden=64,layers=1,train=adam[learned]", "load_from"),
        ("cfg:hidden=64,layers=1,lr=0.1", "lr goes with train"),
        ("cfg:hidden=65,layers=1,train=sgd", "multiple of 64"),
        ("cfg:hidden=64,layers=999999999,train=sgd", "layers must be from 1 to"),
        ("cfg:hidden=64,layers=1e3,train=sgd", "layers cannot be '1e3'"),
        ("cfg:hidden=64,train=sgd", "needs layers"),
        ("cfg:hidden=64,layers=1,train=sgd,lr=nan", "lr cannot be nan"),
        ("cfg:hidden=64,layers=1,train=sgd,stride=0", "stride must be at least 1"),
        ("cfg:hidden=64,layers=1,heads=2", "'heads=2' is unknown"),
        ("cfg:hidden=64,hidden=64,layers=1", "'hidden' is there twice"),
        ("cfg:64,2,adam", "by position is hidden,intermediate,layers,train,seed,lr"),
        ("mini;policy:schedule=0..:train(bptt=3)", "bptt is 1"),
        ("mini;policy:always", "must start with"),
    ],
)
def test_what_is_no_method_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        Method.parse(text)


def test_a_random_model_has_the_sizes_that_it_names():
    model = RandomModel.parse("cfg:hidden=128,layers=3,intermediate=256,a_rank=8,g_rank=16,train=adam")
    expected = RWKV7Config(
        vocab_size=300, hidden_size=128, num_layers=3, ffn_size=256, a_rank=8, gate_rank=16
    )
    assert model.sizes(300) == expected
    assert str(model.policy) == "schedule=0..:train(scope=all,opt=adam)"
    with pytest.raises(UsageError, match="too large"):
        RandomModel(hidden=8192, layers=256, train="adam").sizes(4096)


def test_an_archive_has_names_and_no_paths():
    method = Method.parse("file:/home/ann/m.pth+experts;policy:schedule=0..:train;load_from=/home/ann/run")
    assert str(method.named("m")) == "file:m+experts;policy:schedule=0..:train;load_from=run"
    with pytest.raises(UsageError, match="cannot stand in a method"):
        Method.parse("file:x").named("x+experts")


def test_levels_mean_methods():
    assert str(method_of("fast")) == "experts[primed]"
    assert str(method_of("best", method=" experts ")) == "experts"
    assert str(method_of("network")) == str(method_of("default")) == "mini+experts"
    assert str(method_of("best", model="goose-mini")) == "mini+experts"
    assert str(method_of("network", checkpoint="run")) == "mini[learned]+experts"
    both = method_of("best", checkpoint="run", model="folder")
    assert str(both) == "file:folder[learned]+file:folder+experts"
    assert (both.model, both.checkpoint, both.networks) == ("folder", "run", ("learned", "frozen"))
    assert both.experts.slot_bits > method_of("network").experts.slot_bits
    streams = {level: method_of(level).streams for level in ("fast", "network", "best")}
    assert streams == {"fast": 1, "network": method.STREAMS, "best": 1}
    assert method_of("best", streams=4).streams == 4


def test_the_first_file_decides_about_the_primer_beside_a_network_only():
    primed = {level: method_of(level).primed for level in ("fast", "network", "best")}
    assert primed == {"fast": True, "network": None, "best": None}
    assert method_of(method="mini+experts").primed is False
    assert method_of(method="mini+experts[primed]").primed is True


def test_profile_native_learns_by_a_policy():
    native = {"profile": "native"}
    assert str(method_of("network", **native)) == f"mini+experts{DEFAULT}"
    assert str(method_of("best", **native)) == f"mini+mini+experts{DEFAULT}"
    assert str(method_of(method="mini", **native)) == f"mini{DEFAULT}"
    assert str(method_of("network", policy="schedule=0..:infer", **native)).endswith("schedule=0..:infer")
    random = method_of(method="cfg:hidden=64,layers=1", policy="schedule=0..:train", **native)
    assert str(random) == f"cfg:hidden=64,layers=1{ALWAYS}"
    started = method_of("network", checkpoint="run", **native)
    assert str(started) == f"mini+experts{DEFAULT};load_from=run" and started.checkpoint == "run"
    named = method_of(method=f"mini{ALWAYS};load_from=run", **native)
    assert (named.checkpoint, named.streams) == ("run", 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": "slow"}, "level must be"),
        ({"method": "magic"}, "unknown"),
        ({"method": "mini[learned]+experts"}, "needs what was learned"),
        ({"level": "fast", "model": "folder"}, "--model is for a network"),
        ({"level": "fast", "checkpoint": "run"}, "--checkpoint is for a network"),
        ({"level": "fast", "streams": 4}, "--streams is for a network"),
        ({"level": "network", "streams": 65}, "streams must be"),
        ({"method": "mini+experts", "checkpoint": "run"}, "leave out --checkpoint"),
        ({"method": "mini+experts", "model": "folder"}, "write file:MODEL"),
        ({"method": "mini", "level": "best"}, "add .experts"),
        ({"level": "fast", "profile": "native"}, "--profile native is for a network"),
        ({"level": "network", "profile": "native", "streams": 2}, "leave out --streams"),
        ({"level": "network", "policy": "schedule=0..:train"}, "give --profile native"),
        ({"method": f"mini{ALWAYS}"}, "takes --profile native"),
        ({"method": "cfg:64,0,1,sgd,0,0.1"}, "takes --profile native"),
        ({"method": "cfg:hidden=64,layers=1", "profile": "native"}, "knows nothing"),
        ({"method": "cfg:hidden=64,layers=1"}, "knows nothing"),
        (
            {"method": f"mini{ALWAYS}", "profile": "native", "policy": "schedule=0..:infer"},
            "leave out --policy",
        ),
        ({"method": f"mini{ALWAYS}", "profile": "native", "checkpoint": "run"}, "write load_from there"),
        ({"method": "mini[learned]", "profile": "native"}, "leave out .learned"),
        (
            {
                "level": "network",
                "profile": "native",
                "checkpoint": "run",
                "policy": "schedule=0..:train;load_from=other",
            },
            "leave out one",
        ),
        ({"profile": "exact"}, "profile must be"),
    ],
)
def test_options_without_effect_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        method_of(**options)
