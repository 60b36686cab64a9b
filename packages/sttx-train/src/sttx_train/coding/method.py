"""Which predictor drives the coder: the method string of an archive, and what it needs to be decoded.

A method is `experts`, or a network: `mini` (goose-mini), `file:PATH` (another model) or `cfg:…` (one of
random weights, `random_model`), and `+experts` if experts are mixed in. These give the same numbers on every
machine:

    mini+experts
    mini[learned]+experts               with what a run learned
    mini[learned]+mini+experts          beside it the network as it was
    experts[primed]                     experts alone, which have read the texts of `primer`
    mini+experts[primed]                the same beside a network: those of JSON lines
                                        (a level decides by the first file)

A network that learns while it codes does not. After `;policy:` stands when it learns, and how:

    mini+experts;policy:schedule=0..10%:train(scope=all);10%..:infer
    cfg:hidden=256,layers=6,seed=7,train=adam
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from sttx_core.errors import UsageError
from sttx_core.experts import ExpertsConfig
from sttx_train.coding.random_model import CONFIG, RandomModel
from sttx_train.formats.locate import EMBEDDED
from sttx_train.online.policy import Policy

Level = Literal["fast", "network", "best"]
EXPERTS, MINI, FILE = "experts", "mini", "file:"
PRIMED = "experts[primed]"
Profile = Literal["portable", "native"]
Reading = Literal["learning", "learned", "frozen"]
"""How a network reads: it learns, it has learned, or it is as it was."""

STREAMS = 8
"""By default, but of level best one; with more the rate hardly grows, and the archive does."""

MOST_STREAMS = 64
_USUAL = ExpertsConfig(slot_bits=22, history_bits=22, index_bits=20)
"""Tables of 160 MB: counts of some megabytes of text, and a history of twelve."""

_LARGE = ExpertsConfig(slot_bits=24, history_bits=22, index_bits=22)
"""Of level best: 600 MB."""

_POLICY = ";policy:"
_NETWORKS = re.compile(r"(?P<network>.+?)(?P<learned>\[learned\])?(?P<beside>\+(?P=network))?", re.DOTALL)
_ALWAYS = "schedule=0..:train(lr=0.03)"
"""A tenth of the rate of `sttx train`, which suits the mixture with experts better (docs/log.md)."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What predicts; ``str`` gives the canonical text.

    Attributes:
        network: ``mini``, ``file:PATH`` or ``cfg:…``; None for experts alone.
        learned: the network has what a run learned.
        beside: mix in the network as it was, too.
        with_experts: mix in experts.
        primed: the experts have read texts before the first file; None if that file is JSON lines, which
            `priming` finds out. The text does not say None.
        policy: when the network learns, and how; None if it does not, or a random model says it.
        experts: sizes of the experts.
        streams: most blocks that are coded side by side; 1 without a network.
        checkpoint: what the network starts from, None for nothing.
    """

    network: str | None = None
    learned: bool = False
    beside: bool = False
    with_experts: bool = True
    primed: bool | None = False
    policy: Policy | None = None
    experts: ExpertsConfig = field(default_factory=ExpertsConfig)
    streams: int = 1
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.network is None:
            if self.policy is not None:
                raise UsageError("experts alone have no network that could learn: leave out the policy")
            return
        if self.primed and not self.with_experts:
            raise UsageError("a network reads no primer: add experts")
        if not (self.network == MINI or self.random or self.network[len(FILE) :].strip()):
            raise UsageError(f"a method's network cannot be {self.network!r}: use mini, file:PATH or cfg:…")
        if self.beside and not self.with_experts:
            raise UsageError("two networks are mixed by experts: add +experts")
        if self.beside and not (self.learned or self.learns):
            raise UsageError("the same network twice says the same: name it once")
        if self.learned and self.learns:
            raise UsageError(
                "what a network that learns starts from is its policy's load_from: leave out [learned]"
            )
        if self.random:
            self._check_random(self.random)

    def _check_random(self, random: RandomModel) -> None:
        if self.beside or self.learned:
            raise UsageError("a random model has not learned before: name it once, without [learned]")
        if random.policy is not None and self.policy is not None:
            raise UsageError("a random model learns by train=… or by a policy: give one of them")

    @classmethod
    def parse(cls, text: str) -> "Method":
        """Read a method.

        Raises:
            UsageError: it cannot be read; says why.

        >>> print(Method.parse("cfg:64,0,2,sgd,1,0.1+experts"))
        cfg:hidden=64,layers=2,seed=1,train=sgd,lr=0.1+experts
        """
        predictors, learns, policy = text.strip().partition(_POLICY)
        parsed = Policy.parse(policy) if learns else None
        if predictors in (EXPERTS, PRIMED):
            return cls(primed=predictors == PRIMED, policy=parsed)
        unprimed = predictors.removesuffix("[primed]") if predictors.endswith(f"+{PRIMED}") else predictors
        names = unprimed.removesuffix(f"+{EXPERTS}")
        found = _NETWORKS.fullmatch(names)
        network = found["network"] if found else ""
        if network.startswith(CONFIG):
            network = str(RandomModel.parse(network))
        elif network != MINI and not network.startswith(FILE):
            raise UsageError(
                f"method {text!r} is unknown: use experts, or mini, file:PATH or cfg:…, perhaps +experts"
            )
        return cls(
            network=network,
            learned=bool(found and found["learned"]),
            beside=bool(found and found["beside"]),
            with_experts=names != unprimed,
            primed=unprimed != predictors,
            policy=parsed,
        )

    def __str__(self) -> str:
        experts = PRIMED if self.primed else EXPERTS
        if self.network is None:
            return experts
        first = self.network + ("[learned]" if self.learned else "")
        parts = [first, *([self.network] if self.beside else []), *([experts] if self.with_experts else [])]
        return "+".join(parts) + ("" if self.policy is None else f"{_POLICY}{self.policy}")

    @property
    def model(self) -> str | None:
        """The model of `file:`; None for goose-mini, a random model and none."""
        network = self.network or ""
        return network.removeprefix(FILE) if network.startswith(FILE) else None

    @property
    def random(self) -> RandomModel | None:
        """The random model, if it is one."""
        network = self.network or ""
        return RandomModel.parse(network) if network.startswith(CONFIG) else None

    @property
    def learns(self) -> Policy | None:
        """When its network learns while it codes, and how; None if it does not."""
        return self.policy or (self.random.policy if self.random else None)

    @property
    def networks(self) -> tuple[Reading, ...]:
        """How each of its networks reads: none, one or two."""
        if self.network is None:
            return ()
        first: Reading = "learning" if self.learns else "learned" if self.learned else "frozen"
        return (first, "frozen") if self.beside else (first,)

    @property
    def profile(self) -> Profile:
        """Whether it evaluates the same on every machine, or only where an archive was made."""
        return "native" if self.learns else "portable"

    def _sizes(self) -> dict[str, Any]:
        """Return what the text does not say."""
        return {name: getattr(self, name) for name in ("experts", "streams", "checkpoint")}

    def in_bytes(self, length: int) -> "Method":
        """Return the method with positions of its policy in bytes, if they are percentages of a length."""
        return self if self.policy is None else replace(self, policy=self.policy.in_bytes(length))

    def named(self, model: str) -> "Method":
        """Return the method as an archive has it: with the names of models and runs, not with their paths.

        Args:
            model: the name of the model.
        """
        policy = self.policy
        if policy is not None and policy.load_from is not None:
            policy = replace(policy, load_from=Path(policy.load_from).resolve().name or "run")
        named = replace(self, network=self.network if self.model is None else FILE + model, policy=policy)
        if replace(Method.parse(str(named)), **named._sizes()) != named:
            raise UsageError(f"a model named {model!r} cannot stand in a method: rename its folder or file")
        return named


def method_of(
    level: str = "fast",
    *,
    method: str | None = None,
    model: str | None = None,
    checkpoint: str | None = None,
    streams: int | None = None,
    profile: str = "portable",
    policy: str | None = None,
) -> Method:
    """Return what a level, or a method that is named, means.

    Args:
        level: fast, network or best; default is another name of network.
        method: what predicts, instead of what the level mixes.
        model: the network's model, None for goose-mini.
        checkpoint: what was learned of it; a network that learns continues from there.
        streams: most blocks that are coded side by side; 8 by default, 1 of level best.
        profile: portable, or native, where the network learns while it codes.
        policy: when it learns, and how; always, and only S0 at a rate of 0.03, when None.

    Raises:
        UsageError: an option is unknown, or has no effect here.
    """
    if profile not in get_args(Profile):
        raise UsageError(f"profile must be portable or native, not {profile!r}")
    level = "network" if level == "default" else level
    if level not in get_args(Level):
        raise UsageError(f"level must be fast, network or best, not {level!r}")
    native, learned = profile == "native", checkpoint is not None and profile != "native"
    wanted = _policy_of(policy, checkpoint) if native else None
    if policy is not None and not native:
        raise UsageError("--policy has no effect without gradients: give --profile native")
    if method is None:
        chosen = _of_level(level, model, learned, wanted)
    elif model is not None:
        raise UsageError("the method says which model it is: leave out --model, or write file:MODEL in it")
    else:
        chosen = _with_policy(Method.parse(method), wanted, given=(policy, checkpoint))
    _check_effect(chosen, level, model, checkpoint, streams, native=native)
    return replace(
        chosen,
        experts=_LARGE if level == "best" else _USUAL,
        streams=1 if not chosen.network or chosen.learns else streams or (1 if level == "best" else STREAMS),
        checkpoint=checkpoint if chosen.learned else chosen.learns.load_from if chosen.learns else None,
    )


def _policy_of(policy: str | None, checkpoint: str | None) -> Policy:
    """Return when a network learns: as it is given, or always; from a checkpoint if there is one.

    Raises:
        UsageError: the policy cannot be read, or says itself what it starts from.
    """
    parsed = Policy.parse(policy or _ALWAYS)
    if checkpoint is not None and parsed.load_from is not None:
        raise UsageError("--checkpoint and the policy's load_from both say what to start from: leave out one")
    return parsed if checkpoint is None else replace(parsed, load_from=checkpoint)


def _of_level(level: str, model: str | None, learned: bool, policy: Policy | None) -> Method:
    if level == "fast":
        return Method(primed=True)
    network = MINI if model in (None, EMBEDDED) else f"{FILE}{model}"
    beside = level == "best" and (learned or policy is not None)
    return Method(network=network, learned=learned, beside=beside, policy=policy, primed=None)


def _with_policy(method: Method, policy: Policy | None, given: tuple[str | None, str | None]) -> Method:
    """Return a method that was named, which learns by a policy of its own or by this one.

    Args:
        method: the method.
        policy: of profile native; None for portable.
        given: what `--policy` and `--checkpoint` say.

    Raises:
        UsageError: both have a policy, or the method learns and the profile is portable.
    """
    if method.random and method.learns is None and given[0] is None:
        raise UsageError(
            "a random model that learns nothing knows nothing: give train=adam, train=sgd or a policy"
        )
    if policy is None:
        if method.learns:
            raise UsageError(f"method {str(method)!r} learns by gradient, which takes --profile native")
        return method
    if method.learns and given != (None, None):
        option, instead = ("--policy", "it") if given[0] else ("--checkpoint", "load_from")
        raise UsageError(f"the method has a policy: leave out {option}, or write {instead} there")
    if method.learns or method.network is None:
        return method
    return replace(method, policy=policy)


def _check_effect(
    method: Method,
    level: str,
    model: str | None,
    checkpoint: str | None,
    streams: int | None,
    *,
    native: bool,
) -> None:
    """Refuse options without effect."""
    given = {"--model": model, "--checkpoint": checkpoint, "--streams": streams}
    unused = [option for option, value in given.items() if value is not None]
    unused += ["--profile native"] if native else []
    if method.network is None and unused:
        raise UsageError(f"{unused[0]} is for a network, and experts alone have none: use --level network")
    if level == "best" and not method.with_experts:
        raise UsageError("level best has larger tables of experts, and the method has none: add +experts")
    if method.learns and streams is not None:
        raise UsageError("a network that learns reads one part at a time: leave out --streams")
    if not native and method.learned != (checkpoint is not None):
        needs = (
            "needs what was learned: name it by"
            if method.learned
            else "does not use what was learned: leave out"
        )
        raise UsageError(f"method {str(method)!r} {needs} --checkpoint")
    if streams is not None and not 1 <= streams <= MOST_STREAMS:
        raise UsageError(f"streams must be from 1 to {MOST_STREAMS}, not {streams}")
