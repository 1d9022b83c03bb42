"""Runs on the Hugging Face hub, through its own client: `hf:owner/name`, or `hf:owner/name@REVISION`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from quintet.core.errors import DataError, EnvironmentFault, QuintetError, UsageError
from quintet.runs.digests import NAME, Digests

if TYPE_CHECKING:
    from huggingface_hub import HfApi


PREFIX = "hf:"


def repository(address: str) -> tuple[str, str | None]:
    """(owner/name, revision) of `hf:owner/name[@REVISION]`. Raises UsageError for anything else."""
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address.removeprefix(PREFIX), re.ASCII)
    if not address.startswith(PREFIX) or found is None:
        raise UsageError(f"{address!r} is not the name of a repository of the Hugging Face hub",
                         why="such names have only the letters a to z and A to Z, digits, and the signs - _ .",
                         fix="write hf:owner/name")  # fmt: skip
    return found[1], found[2]


# -- from a run to the hub -------------------------------------------------------------------------------------------


def push(folder: Path, address: str, *, private: bool) -> str:
    """Make the files of `folder` those of the repository, whose older ones go; returns the address of the commit.

    Who may write there is the client's affair: `hf auth login`, or HF_TOKEN.
    """
    name, revision = repository(address)
    with reaching(address) as hub:
        hub.create_repo(name, private=private, exist_ok=True)
        done = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            revision=revision,
            commit_message="a run of quintet",
            delete_patterns=["checkpoints/*", "codec/*", "samples/*", "best/*"],
        )
    return str(done.commit_url)


# -- from the hub to a run -------------------------------------------------------------------------------------------


def fetch(address: str) -> Path:
    """The folder of a run of the hub, in the client's own cache, every file of which has the sha256 that was pushed."""
    name, revision = repository(address)
    with reaching(address) as hub:
        listed = Path(hub.hf_hub_download(name, NAME, revision=revision))
        digests = Digests.read(listed)
        # the revision that the list is of, should the repository change meanwhile: it is the folder's name
        folder = Path(hub.snapshot_download(name, revision=listed.parent.name, allow_patterns=[*digests.files, NAME]))
    digests.verify(folder, f"remove {folder} and load it again")
    return folder


@contextmanager
def reaching(address: str) -> Iterator[HfApi]:
    """The hub's client ($HF_ENDPOINT says where another hub is); what it raises inside is said in our words."""
    try:
        from huggingface_hub import HfApi

        yield HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    except QuintetError:
        raise
    except ImportError:
        raise EnvironmentFault("the package huggingface_hub is not installed", where=address,
                               fix="pip install 'quintet[hf]'") from None  # fmt: skip
    except Exception as error:  # the client's own errors, and those of the network below it
        kind = type(error).__name__
        fixes = {"RepositoryNotFoundError": "check the name; if it is private, run hf auth login or set HF_TOKEN",
                 "GatedRepoError": "ask for access on its page, then log in with hf auth login",
                 "EntryNotFoundError": "only runs that quintet push has written can be loaded",
                 "RemoteEntryNotFoundError": "only runs that quintet push has written can be loaded",
                 "RevisionNotFoundError": "check the revision, which is what follows the @"}  # fmt: skip
        why = str(error).strip().splitlines()[0][:200] if str(error).strip() else kind
        fix = fixes.get(kind, "check the network and who is logged in (hf auth whoami)")
        raise DataError(
            "the hub did not send or accept the files", where=address, why=f"{kind}: {why}", fix=fix
        ) from None
