"""What a kind of data knows of itself. Everything else asks it, and nobody asks for its name."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quintet.core.codec import Codec
from quintet.core.errors import UsageError
from quintet.data.archives import Entry
from quintet.data.dataset import Dataset, Found, Reading, join, take
from quintet.data.published import Source
from quintet.metrics.measures import Figures, Marks, Measure
from quintet.modalities import NONE, Choices
from quintet.modalities.cards import Shown
from quintet.modalities.provenance import INSIDE, STANDARD, Format, Provenance, is_folder, replace, sidecar, text_of

if TYPE_CHECKING:
    from quintet.metrics.features import FeatureSpace

FEW = 50
"""Fewer training items, or items of a class, than this are a problem worth a line."""


class Modality(Shown, ABC):
    """A kind of data. There is one instance of each, in `registry.MODALITIES`; raw items are whatever it `owns`."""

    name: ClassVar[str]
    codec: ClassVar[type[Codec]]
    things: ClassVar[str]
    """Several of its items, in a sentence."""
    previewed: ClassVar[int]
    """How many items a preview shows at most."""
    formats: ClassVar[Mapping[str, Format]]
    """By suffix; the first is a file that a person can open."""
    single: ClassVar[str] = ""
    """The suffix of the files of a folder that holds one item each; "" if there is no such folder."""

    # -- where items come from ---------------------------------------------------------------------------------------

    sets: ClassVar[Mapping[str, Source]]
    """The named sets of this kind of data."""
    suffixes: ClassVar[tuple[str, ...]]
    """Of the files that are read as items of this kind."""
    empty_lines: ClassVar[bool] = False
    """Whether an empty line of a file is an item too, as an empty text is."""
    labelled_by_folders: ClassVar[bool] = True
    """Whether items are of classes, as folders of files name them; rows are not, which have columns for that."""
    feature: ClassVar[str] = ""
    """What the hub calls a column of such files; "" where it has none."""
    arrays: ClassVar[tuple[str, ...]] = ()
    """Names by which a file of several arrays may call that of such items."""
    task: ClassVar[str] = ""
    """What the hub calls making such items; "" where it has no word for it."""

    def asked(self, reading: Reading) -> bool:
        """Whether how a source is read says that its items are of this kind: no other is then tried."""
        return False

    @abstractmethod
    def read(self, entries: Sequence[Entry], found: Found) -> Dataset:
        """Files as a data set, split, with notes of what was found and decided. Raises DataError."""

    def from_array(self, array: np.ndarray, labels: pa.Table | None, found: Found) -> Dataset | None:
        """An array as a data set, if its shape and type are those of such items. Raises DataError for one that
        almost is.
        """
        return None

    def from_columns(self, columns: pa.Table, found: Found) -> Dataset | None:
        """Columns that a program gives as a data set, if they hold such items."""
        return None

    # -- raw items ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def owns(self, items: Any) -> bool:
        """Whether these are raw items of this kind."""

    @abstractmethod
    def contents(self, items: Any) -> Iterator[bytes]:
        """The content of each item, by which equal ones are known."""

    def splice(self, items: Any) -> Any:
        """Planted anomalies: each item's first half with the second half of the item half the list further on.

        Marginal distributions of the halves stay what they are, so that only a model that knows how they belong
        together can tell.
        """
        n = len(items)
        return self.halves(items, take(items, (np.arange(n) + max(1, n // 2)) % max(1, n)))

    @abstractmethod
    def halves(self, first: Any, second: Any) -> Any:
        """The first half of each item and the second half of another as one."""

    # -- what programs hold -------------------------------------------------------------------------------------------

    opens: ClassVar[tuple[str, ...]] = ()
    """Suffixes of files that `raw` takes by their path, an item each; any other path is a source."""

    @abstractmethod
    def raw(self, items: Any, codec: Codec, column: str | None, reading: Choices) -> Any:
        """Whatever a program holds as raw items: see `containers.raw_items`."""

    def conditions(self, given: Any, codec: Codec, n: int) -> Any:
        """n raw conditions from what a program gives; None: they are items like any other."""
        return None

    def typed(self, codec: Codec, text: str) -> Any:
        """The condition that a person types. Raises DataError for what is none."""
        return text

    def holds_conditions(self, suffix: str) -> bool:
        """Whether a file with this suffix holds conditions as its items; else it has one a line."""
        return True

    def reading(self, codec: Codec, reading: Choices) -> dict[str, Any]:
        """How files that are brought to a fitted model are read, so that they are like its training items, which were
        read as `reading` says.
        """
        return {}

    def like(self, items: Any, codec: Codec, reading: Choices) -> Any:
        """Items that were read like that in the shape of the training items; a change of them is warned."""
        return items

    @abstractmethod
    def stored(self, data: Any, folder: Path) -> Path | None:
        """What a program holds, written to a file or a folder that `read` understands; None if it is no such data."""

    parts: ClassVar[tuple[str, ...]] = ()
    """The words for a part that is known; any other `known` is a file with a mask. None: `known` names no files."""

    def known(self, items: Any, known: str | None, *, hole: str | None, reading: Choices) -> tuple[Any, Any]:
        """(items, raw mask) for `Codec.partial` from what a person says is known of them; None leaves it to the items'
        own holes. `hole`: a picture in which the holes are white; `reading`: how the training items were read.
        """
        if hole is not None:
            fix = "use `known` for tables, series and audio; in a text, mark each hole with █"
            raise UsageError(f"a mask can only be given for images, not for items of kind {self.name}", fix=fix)
        if known is not None:
            what, why = f"`known` cannot be given for items of kind {self.name}", "a text itself shows what is known"
            raise UsageError(what, why=why, fix="mark each hole in the text with █, or give only its beginning")
        return items, None

    def several(self, draws: Sequence[Any], items: Any, cells: pa.Table | None = None) -> Any:
        """Completions of `items`, each a draw of all of them, as one list. `cells`: what the items are in their file,
        where the completions go to a file that is like it.
        """
        return join(draws)

    # -- what a model of them is ------------------------------------------------------------------------------------

    columns: ClassVar[str] = ""
    """How columns of a table, or beside other items, become such items, in words; "" where they cannot."""
    gaps: ClassVar[bool] = True
    """Whether an item may lack a part of what it is, as a row with an empty cell does; a text that lacks is none."""

    def takes(self, columns: pa.Table) -> bool:
        """Whether these training cells, by their values, are such items rather than of another kind."""
        return False

    def of_columns(self, columns: pa.Table, *, given: bool = False) -> Any:
        """Columns as raw items, or as what is `given`. Raises UsageError for those that cannot be."""
        where, what = ", ".join(columns.column_names), f"columns of a table cannot be used as {self.things}"
        raise UsageError(what, where=where, fix="choose the codec table or text for columns, or leave the codec out")

    def labels(self, items: Any) -> bool:
        """Whether each of these training items is one label: a category, to be named or to be given."""
        return False

    def recipe(self, items: Any, given: str | None, coding: Mapping[str, Any]) -> str:
        """With which recipe a model of these training items begins, given what is of the kind `given` (None: nothing).
        `coding`: what the user says of their codec.
        """
        return self.kind(items) if self.owns(items) else self.name

    def given_settings(self, coding: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a codec of conditions of this kind that are not the user's to choose; `coding`: those of the
        items' codec.
        """
        return {}

    def fit_pair(self, codec: Codec, items: Any, given: Any, settings: Mapping[str, Any]) -> tuple[Codec, Codec]:
        """(`codec` fitted on items, a codec with these settings fitted on conditions of this kind)."""
        return codec.fit(items), self.codec(None, self.codec.Settings(**settings)).fit(given)

    # -- what is understood of them ----------------------------------------------------------------------------------

    readable: ClassVar[bool] = False
    """Whether a few items can be read as `lines`."""

    def lines(self, items: Any) -> str:
        """A few items as lines that a person reads."""
        raise NotImplementedError(f"{self.things} cannot be read as lines")

    def facts(self, items: Any) -> dict[str, Any]:
        """What there is to know about the items, for a person; {} where columns say it all."""
        return {}

    def names(self, items: Any) -> Mapping[str, Sequence[Any]]:
        """Columns that say which item each is where its number does not: when it was, whose it is."""
        return {}

    def column_facts(self, items: Any, train: NDArray[np.int64] | None = None) -> list[dict[str, Any]]:
        """Name, type, range or values, and missing cells of each column of the items, and what becomes of it where the
        rows `train` are trained on; [] where they have no columns.
        """
        return []

    def scarce(self, dataset: Dataset) -> str:
        """What there is to train on, where it is very little; else ""."""
        count = len(dataset.index("train"))
        return f"{count:,} items" if count < FEW else ""

    def problems(self, items: Any) -> list[str]:
        """What a person should look at before training on them."""
        return []

    def kind(self, items: Any) -> str:
        """The kind of task that it is to model these: its own name, or a more special one with recipes or results."""
        return self.name

    def dims(self, items: Any) -> int:
        """Numbers or symbols of an item; of items that differ in length, the median."""
        return int(np.median([len(item) for item in items]))

    def missing(self, items: Any) -> bool:
        """Whether there are holes in them."""
        return False

    def count(self, dataset: Dataset, split: str) -> int:
        """As how many items a model sees those of a split."""
        return len(dataset.index(split))

    # -- pictures ----------------------------------------------------------------------------------------------------

    @abstractmethod
    def preview(self, items: Any, captions: list[str]) -> bytes:
        """A PNG of data: a few items, or how their values are distributed."""

    @abstractmethod
    def shown(self, items: Any, codec: Codec, reference: Any = None) -> dict[str, Any]:
        """Items as a report shows them (`report.ShownSamples`), perhaps over `reference`, real ones."""

    @abstractmethod
    def pairs(self, samples: Any, near: Any, distances: list[float], codec: Codec) -> dict[str, Any]:
        """Samples, each with the training item that is nearest to it, as a report shows them."""

    def looks(self, items: Any, codec: Codec) -> dict[str, bytes]:
        """Files that a person can open, by suffix: samples of a run while it trains."""
        suffix, form = next(iter(self.formats.items()))
        return {suffix: form.encode(self.view(items, codec), {})}

    def view(self, items: Any, codec: Codec | None) -> Any:
        """Items as they are looked at: images brightened to 0 ... 255."""
        return items

    def values(self, items: Any, reading: Choices) -> Any:
        """Items in the units of the files that they are like, which were read as `reading` says."""
        return items

    # -- how samples are measured ------------------------------------------------------------------------------------

    feature_spaces: ClassVar[Mapping[str, Callable[[], FeatureSpace]]] = {}
    """In which such items alone can be measured, by the name by which a user chooses one."""
    naive: ClassVar[str] = "the average item"
    """What `untaught` gives, in words."""

    measures: ClassVar[tuple[Measure, ...]] = ()
    """The figures of `figures` and `marks`, and of whatever else is special to them, as a report shows them."""

    @property
    def at_most(self) -> Mapping[str, int]:
        """How many items `figures` looks at, at most; figures with other limits are not compared with these."""
        return {}

    def untaught(self, train: NDArray[Any], n: int) -> NDArray[Any] | None:
        """n encoded items that need no model, made of the training items (N, ...): samples which are not clearly nearer
        to the data have learnt too little. None where that may be a fair model.
        """
        return np.repeat(train.mean(0, keepdims=True).astype(train.dtype), n, 0)

    def figures(
        self,
        fake: Any,
        real: Callable[[str], Any],
        split: str,
        codec: Codec,
        *,
        labelled: bool,
        most: int,
        seed: int,
    ) -> Figures:
        """What is measured of such items alone: of raw samples `fake` against the items of a split.

        `real` gives those of any split; `codec` is how the bench encodes them; `labelled`: samples were asked for by
        labels, and what can be learnt from them is measured by these; `most`: so many samples and real items there are
        whatever the model and the split.
        """
        return Figures({}, {})

    def marked(self, codec: Codec) -> bool:
        """Whether items of this codec that are made of a sequence are right or wrong, each beside the one that is
        wanted: see `marks`.
        """
        return False

    def marks(self, made: Any, wanted: Any, given: Modality) -> Marks:
        """How right made items are, each made of an item of the kind `given`."""
        raise NotImplementedError(f"{self.things} are neither right nor wrong")

    def units(self, nats: NDArray[Any], items: Any, codec: Codec) -> dict[str, Any]:
        """Log-likelihoods (N,) of items, all of them together, in units that people count these in; {} if there are
        none.
        """
        return {}

    hole: ClassVar[str] = ""
    """What a person types for a lost part of an item that begins with a prompt; "" where no item is typed."""
    completed: ClassVar[int] = 0
    """So many items of a split are completed, and what comes of it is measured by `completions`."""

    def completions(
        self, complete: Callable[[Any, Any], Any], real: Callable[[str], Any], split: str, *, count: int
    ) -> Marks:
        """What is measured of completions: `complete(items, known)` of `count` items of a split, of which `real` gives
        any. The items are the same for all models and seeds.
        """
        return Marks({}, {})

    # -- files -------------------------------------------------------------------------------------------------------

    @property
    def suffix(self) -> str:
        """Of a file that a person can open."""
        return next(iter(self.formats))

    def check_output(self, path: str | Path) -> None:
        """Raise UsageError unless items can be written to `path`: to be known before the work is done."""
        if "\0" in str(path):
            where = repr(str(path))
            raise UsageError("a path cannot contain a NUL character", where=where, fix="remove the NUL character")
        if str(path) == STANDARD:
            return
        folder = is_folder(path)
        if (folder and not self.single) or (not folder and Path(path).suffix.lower() not in self.formats):
            known = ", ".join(self.formats) + (", or to a folder" if self.single else "")
            suffix = Path(path).suffix
            what = "a folder" if folder else f"a {suffix} file" if suffix else "a file without suffix"
            why = f"they can be written to files {known}"
            raise UsageError(f"items of kind {self.name} cannot be written to {what}", where=str(path), why=why)

    def write(
        self, path: str | Path, items: Any, note: Provenance, *, codec: Codec | None = None, reading: Choices = NONE
    ) -> list[Path]:
        """Write raw items as a codec decodes them, in the format of the suffix. Returns the files.

        A path without a suffix, or one that ends in /, is a folder of single files. `codec` and `reading`: see `view`
        and `values`. Files are replaced as a whole: a reader sees the old or the new one. Raises OSError, and
        UsageError for a format that does not fit.
        """
        self.check_output(path)
        if str(path) == STANDARD:
            sys.stdout.buffer.write(self.encoded(self.suffix, items, note, codec, reading))
            sys.stdout.buffer.flush()
            return []
        if is_folder(path):
            digits = max(5, len(str(len(items) - 1)))
            contents = enumerate(self.singles(items, note, codec, reading))
            return [replace(Path(path) / f"{i:0{digits}d}{self.single}", content) for i, content in contents]
        suffix = Path(path).suffix.lower()
        written = [replace(Path(path), self.encoded(suffix, items, note, codec, reading))]
        if suffix not in INSIDE:
            written.append(replace(sidecar(Path(path)), (text_of(note, indent=1) + "\n").encode()))
        return written

    columned: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the formats that may hold further columns."""

    def with_columns(self, items: Any, columns: pa.Table) -> pa.Table:
        """Items beside these columns, a row an item, for such a format."""
        raise NotImplementedError(f"no columns beside {self.things}")

    def encoded(self, suffix: str, items: Any, provenance: Provenance, codec: Codec | None, reading: Choices) -> bytes:
        """A file's bytes."""
        form = self.formats[suffix]
        return form.encode(self.values(items, reading) if form.values else self.view(items, codec), provenance)

    def singles(self, items: Any, provenance: Provenance, codec: Codec | None, reading: Choices) -> Iterator[bytes]:
        """The files of a folder, each with its `index` in its provenance."""
        raise UsageError(f"{self.things} cannot be written to a folder, one file each", fix="give the name of a file")

    def picture(self, path: Path, items: Any, codec: Codec) -> list[Path]:
        """Write what `looks` gives: `path` plus each suffix."""
        return [
            replace(path.with_name(path.name + suffix), content) for suffix, content in self.looks(items, codec).items()
        ]
