"""What can be asked: one request a verb, with the limits, the default and the meaning of each of its fields. It is free
of torch, since the help of the command line is made from it.
"""

from __future__ import annotations

from abc import ABC
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, model_validator

from quintet.core.errors import UsageError, meant
from quintet.core.settings import LARGEST_NUMBER, Settings, in_words
from quintet.modalities.options import OPTIONS

SECTIONS = {"model": "model", "sampling": "sampling", "training": "training", "data": "reading", "coding": "coding",
            "given": "given"}  # fmt: skip
"""Sections of settings, whose names depend on the family, and the field of a request that holds each."""


class Request(Settings, ABC):
    """Base of all requests. A value that is none, or beyond its limits, is a UsageError that names the field."""

    def sections(self) -> dict[str, dict[str, Any]]:
        """The sections of settings that it holds."""
        return {name: values for name, field in SECTIONS.items() if (values := getattr(self, field, None))}

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, given: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return make(given)
        except ValidationError as error:
            raise refusal(error, cls) from None


def refusal(error: ValidationError, request: type[Request]) -> UsageError:
    """pydantic's first complaint in our words."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return UsageError(f"{name} is missing", why=request.model_fields[name].description or "")
    if first["type"] == "extra_forbidden":
        known = request.model_fields
        return UsageError(f"unknown field {name!r}", why=f"{meant(name, known)}known: {', '.join(known)}")
    return UsageError(f"{name} {first['input']!r}: {in_words(first)}")


Condition = Annotated[
    str | None,
    Field(description="the condition, one value for all items [each item's own, or drawn from the training data]"),
]
Seed = Annotated[
    int,
    Field(ge=0, le=LARGEST_NUMBER, description="fixes the random numbers: item i depends on the seed and on i alone"),
]
Noise = Annotated[
    int, Field(ge=0, le=LARGEST_NUMBER, description="the seed of the noise that bounds and estimates use")
]
Sampling = Annotated[dict[str, Any], Field(description="settings of sampling, instead of those of the run")]

# -- what a loaded model is asked --------------------------------------------------------------------------------------
# Items and conditions come beside these: from files, or from whatever an app was sent.


class Sample(Request, ABC):
    """New items."""

    n: int | None = Field(
        None, ge=1, le=10_000_000, description="how many items to make [64, or one for each condition]"
    )
    seed: Seed = 0
    condition: Condition = None
    prompt: str | None = Field(None, description="text that the samples begin with")
    length: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="the largest number of symbols after the prompt [the rest of what the model reads at once]",
    )
    stop: tuple[str, ...] = Field(
        (), description="a text ends before this one, in which \\n is a line end; may be given several times"
    )
    regex: str | None = Field(None, description="a regular expression that the new text matches")
    stream: bool = Field(False, description="show each text as it is made [-n 1]")
    n_best: int | None = Field(
        None,
        ge=1,
        le=LARGEST_NUMBER,
        description="write this many of the likeliest texts for each condition, with scores",
    )
    sampling: Sampling = {}

    @model_validator(mode="after")
    def _not_streamed(self) -> Self:
        if self.n_best is not None and self.stream:
            raise UsageError("n_best and stream cannot be used together", fix="give only one of them",
                             why="the likeliest texts are known only when all texts are written")  # fmt: skip
        return self


class Translate(Sample, ABC):
    """Of texts, the texts that a model of texts given texts makes of them: the likeliest symbol at each step, unless
    `sampling` says more.
    """


class Score(Request, ABC):
    """How likely items are."""

    condition: Condition = None
    seed: Noise = 0


class Rank(Score, ABC):
    """Items from the least likely on, each with the share p of usual items that are at most as likely."""


class Classify(Request, ABC):
    """The label of each item, and the probability of each label."""


class Complete(Request, ABC):
    """Items whose holes are to be filled."""

    known: str | None = Field(
        None,
        description="; ".join(kind.known for kind in OPTIONS.values() if kind.known),
    )
    draws: int = Field(1, ge=1, le=LARGEST_NUMBER, description="how many different completions of each item to draw")
    seed: Seed = 0
    condition: Condition = None
    sampling: Sampling = {}


class Reconstruct(Request, ABC):
    """Items that are to be encoded and decoded again."""

    beside: bool = Field(False, description="show each original before its reconstruction")
    condition: Condition = None


class Interpolate(Request, ABC):
    """Paths from one item to the next, pair by pair."""

    steps: int = Field(8, ge=2, le=LARGEST_NUMBER, description="items on each path, both ends included")
    condition: Condition = None


class Encode(Request, ABC):
    """Items whose latents are wanted."""

    condition: Condition = None


Features = Annotated[
    str, Field(description="what distances are measured in: pca, learnt (a net trained on the data) or inception [pca]")
]


class Evaluate(Request, ABC):
    """A model that is to be measured on unseen items of its run's own data."""

    split: str = Field("test", description="the split that the model is measured on: train, validation or test")
    samples: int = Field(1000, ge=20, le=LARGEST_NUMBER, description="how many samples to measure")
    seed: int = Field(
        0, ge=0, le=LARGEST_NUMBER, description="the seed of the samples, and of the noise in bounds and estimates"
    )
    features: Features = "pca"
    budget: str | None = Field(None, description="how long it may take [as training did, 2m to 10m]")
    sampling: Sampling = {}


# -- the same of a run in a folder, with files that are read and written -----------------------------------------------

Output = Annotated[str | None, Field(description="where to write; the suffix decides the format")]
Split = Annotated[str | None, Field(description="train, validation, test or all [test; all of a file]")]
Count = Annotated[
    int | None,
    Field(ge=1, le=LARGEST_NUMBER, description="how many of them, drawn at random [all of a file, otherwise 8]"),
]


class Local(Request, ABC):
    """Base of requests that name files and folders of this machine."""

    runs: Path | None = Field(None, description="folder of runs [$QUINTET_RUNS, or ./runs]")


class OfRun(Local, ABC):
    """Base of requests of a run."""

    run: str = Field(description="a name under the runs folder, a path, or hf:owner/name")


class OfItems(OfRun, ABC):
    """Base of requests of a run that are about items."""

    data: str | None = Field(None, description="a source or file of items of the run's kind [the run's own test split]")


class SampleRequest(Sample, OfRun):
    """New items of a run."""

    conditions: Path | None = Field(
        None, description="a file of conditions: one value on each line, or items of their kind"
    )
    output: Output = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.condition is not None and self.conditions is not None:
            raise UsageError("condition and conditions were both given", fix="give only one of them",
                             why="both say which conditions the items are made for")  # fmt: skip
        return self


class ScoreRequest(Score, OfItems):
    """How likely items are."""

    data: str | None = Field(None, description="a source of items of the run's kind [the run's own]")
    split: Split = None
    rank: bool = Field(
        False, description="list the least likely first, with the share p of usual items that are at most as likely"
    )
    output: Output = None


class CompleteRequest(Complete, OfItems):
    """Items whose holes are to be filled."""

    mask: str | None = Field(
        None, description="images: a picture in which white marks the hole, as other tools have it"
    )
    n: Count = None
    output: Output = None


class ReconstructRequest(Reconstruct, OfItems):
    """Items that are to be encoded and decoded again."""

    n: Count = None
    output: Output = None


class InterpolateRequest(Interpolate, OfItems):
    """Paths from one item to the next."""

    n: int = Field(4, ge=1, le=LARGEST_NUMBER, description="how many pairs of items, drawn at random")
    output: Output = None


class EncodeRequest(Encode, OfItems):
    """Items whose latents are wanted."""

    split: Split = None
    output: Output = None


class EvaluateRequest(Evaluate, OfRun):
    """A run that is to be measured on unseen items."""


# -- training and measuring --------------------------------------------------------------------------------------------

Reading = Annotated[dict[str, Any], Field(description="how a path is read: size, fit, rate, unit, group, time, ...")]
Preset = Annotated[str | None, Field(description="classic, tiny, small or base [small]")]


def one_length(request: Any) -> Any:
    """The request; UsageError if its training is to end by both."""
    if request.budget is not None and request.steps is not None:
        raise UsageError("budget and steps were both given", why="each of them says how long to train",
                         fix="give only one of them")  # fmt: skip
    return request


class TrainRequest(Local):
    """A family to be trained on a source. Its fields win over those of `config`, which wins over the preset."""

    family: str | None = Field(None, description="vae, gan, autoregressive, flow or diffusion")
    data: str | None = Field(None, description="a source: quintet data lists them")
    target: str | None = Field(None, description="the column that is modelled [the items themselves]")
    condition: str | None = Field(
        None, description="the column that the model is given, e.g. label, so that items can be asked for by it"
    )
    codec: str | None = Field(
        None,
        description="what encodes the items: a codec, or a run whose autoencoder does, or latent: an autoencoder of "
        "pictures is trained first, with half of the budget [by the kind of data]",
    )
    preset: Preset = None
    budget: str | None = Field(None, description="how long to train, e.g. 90s, 2m, 1h [60s]")
    steps: int | None = Field(None, description="how many updates, instead of a budget")
    seed: int | None = Field(
        None, ge=0, le=LARGEST_NUMBER, description="the seed of weights, order of the data and noise [0]"
    )
    run: str | None = Field(None, description="a name for the run [SOURCE-FAMILY-NUMBER]")
    config: Path | None = Field(None, description="a YAML file like a run's config.yaml, complete or in part")
    resume: Literal["auto"] | None = Field(
        None, description="auto: go on with the run if it exists, and train it further if it is shorter than asked"
    )
    dry_run: bool = Field(False, description="only show the complete configuration, and write nothing")
    model: dict[str, Any] = Field({}, description="settings of the family's nets")
    sampling: dict[str, Any] = Field({}, description="settings of sampling")
    training: dict[str, Any] = Field({}, description="settings of training")
    reading: Reading = {}
    coding: dict[str, Any] = Field({}, description="settings of the codec that encodes the items")
    given: dict[str, Any] = Field({}, description="settings of the codec that encodes the condition")

    _one_length = model_validator(mode="after")(one_length)

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.resume and not self.run:
            why = "the name says which run is to be continued"
            raise UsageError("resume needs the name of a run", why=why, fix="--run NAME")
        return self


class ResumeRequest(OfRun):
    """A run that is to go on to its end, or to be trained further."""

    changed_data: bool = Field(False, description="go on although the data are not the same")
    changed_config: bool = Field(False, description="go on with a config.yaml that was changed by hand")
    budget: str | None = Field(None, description="train until this much time in all, e.g. 10m")
    steps: int | None = Field(None, ge=1, description="train until this many updates in all")
    _one_length = model_validator(mode="after")(one_length)


class DistilRequest(Local):
    """A run whose model is to become one that samples in one or two steps, as a run of its own."""

    what: str = Field(description="a run: a name under the runs folder, a path, or hf:owner/name")
    run: str | None = Field(None, description="a name for the new run [SOURCE-FAMILY-NUMBER]")
    budget: str | None = Field(None, description="how long to train, e.g. 90s, 2m, 1h [60s]")
    steps: int | None = Field(None, ge=1, description="how many updates, instead of a budget")
    seed: int | None = Field(
        None, ge=0, le=LARGEST_NUMBER, description="the seed of the order of the data and of noise [the run's own]"
    )
    _one_length = model_validator(mode="after")(one_length)


class CompareRequest(Local):
    """A source on which families are to be trained and measured alike; or runs, or reports, to be put side by side."""

    what: tuple[str, ...] = Field((), description="a source to train on (quintet data lists them), or runs, or reports")
    families: str | None = Field(None, description="the families to compare, separated by commas [all five]")
    condition: str = Field("auto", description="the column that models are given, or none [label, if there is one]")
    budget: str | None = Field(None, description="how long each run may train [60s]")
    steps: int | None = Field(None, description="how many updates each run has, instead of a budget")
    parameters: int | None = Field(None, ge=1, description="make every model about this large [as large as by default]")
    seeds: int = Field(1, ge=1, le=LARGEST_NUMBER, description="how many runs of each family, with different seeds")
    preset: Preset = None
    samples: int = Field(1000, ge=20, le=LARGEST_NUMBER, description="how many samples of each run are measured")
    split: str = Field("test", description="the split that samples are measured against: train, validation or test")
    features: Features = "pca"
    run: str | None = Field(None, description="a name for the folder of its runs [compare-SOURCE-NUMBER]")
    output: Output = None
    reading: Reading = {}
    _one_length = model_validator(mode="after")(one_length)


class PushRequest(OfRun):
    """A run that others are to load from the Hugging Face hub."""

    to: str = Field(description="hf:owner/name, made if there is no such repository")
    private: bool = Field(False, description="make a repository that only its owner can see")


class ExportRequest(OfRun):
    """A run whose parts are to be used without quintet."""

    format: Literal["onnx", "torch"] = Field("onnx", description="onnx, or torch (programs of torch.export)")
    output: Output = None


class RecommendRequest(Local):
    """A source for which a family is to be recommended before any training."""

    source: str = Field(description="a source: quintet data lists them")
    budget: str = Field("60s", description="how long each family may train")
    reading: Reading = {}


class DataRequest(Local):
    """A source that is to be looked at, or none: all that have a name."""

    source: str | None = Field(None, description="a name, a path or hf:owner/name [list the names]")
    output: Output = None
    reading: Reading = {}


class ServeRequest(Local):
    """Runs whose models are to answer requests over HTTP."""

    run: tuple[str, ...] = Field((), description="names under the runs folder, or paths")
    host: str = Field(
        "127.0.0.1", description="the address to listen on; any but this machine's own needs $QUINTET_TOKEN"
    )
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes any free one")
    names: tuple[str, ...] = Field((), description="a name by which clients call the server; may be repeated")
    threads: int | None = Field(None, ge=1, le=1024, description="threads of a forward pass [as many as torch chooses]")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    memory_limit: int | None = Field(
        None, ge=1, description="megabytes of weights that are loaded at once [half of this machine's memory]"
    )
    queue: int = Field(64, ge=1, le=100_000, description="how many requests may wait for a model")
    deadline: int = Field(120, ge=1, le=86_400, description="how many seconds a request may take")
    body_limit: int = Field(16, ge=1, le=4096, description="the largest request, in megabytes")
    most_items: int = Field(10_000, ge=1, le=10_000_000, description="the largest number of items in a request")
    most_steps: int = Field(
        1_000,
        ge=1,
        le=LARGEST_NUMBER,
        description="the largest number of steps, or any other whole number of --sampling, in a request",
    )
    most_work: int = Field(
        20_000_000,
        ge=1,
        description="the most work of a request: items x numbers of an item x steps beyond the run's own",
    )


class StudioRequest(Local):
    """Pages in the browser, in which data are looked at, models trained, compared and used."""

    data: str | None = Field(None, description="a source whose page is opened first [the start page]")
    port: int = Field(8700, ge=0, le=65535, description="the port of 127.0.0.1; 0 takes any free one")
    no_browser: bool = Field(False, description="print the link and open no browser")


# -- what there is -----------------------------------------------------------------------------------------------------


class InspectRequest(Local):
    """A run, an export, or a file that quintet wrote, that is to be looked at."""

    what: str = Field(description="a run, an export, or a file that quintet wrote")
    verify: bool = Field(False, description="check every digest of every checkpoint")


class RunsRequest(Local):
    """All runs."""


class DoctorRequest(Local):
    """This machine and installation, which are to be checked."""


class CompletionRequest(Local):
    """The script that completes verbs and options in a shell."""

    shell: Literal["bash", "zsh", "fish"] = Field(description="bash, zsh or fish")
