"""Mine (docstring, code) pairs from installed packages, git repositories, folders or archives.

Source files in; documented functions, their duplicate clusters and train/heldout pairs out, as Parquet.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from cpt_ray.cluster import ClusterOptions
from cpt_ray.code.options import CloneOptions, MineOptions
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.options import Options
from cpt_ray.pairs.options import DocstringOptions, SplitOptions

READS = {"repository_list": "file"}


class Steps(Options):
    """The steps from source files to pairs."""

    mine: MineOptions = MineOptions()
    dedup: DedupOptions = DedupOptions()
    docstrings: DocstringOptions = DocstringOptions()
    split: SplitOptions = SplitOptions()
    test_urls: tuple[str, ...] = Field(
        (), description="files of URLs of official test functions (CodeSearchNet); their files are left out"
    )

    @model_validator(mode="after")
    def _messages(self) -> Self:
        if "commit" in self.docstrings.further and not self.mine.history.commits:
            raise ValueError("docstrings.further=[commit] needs mine.history.commits, the number of commits to read")
        return self


class RepositoryOptions(Options):
    """One repository, or what holds its files."""

    path: str = Field(
        description="a git repository (bare or not, partial clones too), the https, http or git URL of one, its name as"
        " github:owner/name, a folder, a tar, zip, wheel, jar, gem or npm archive, or Parquet in the layout of The Stack,"
        " whose repositories are groups of their own"
    )
    commit: str = Field("HEAD", description="revision to read")
    group: str = Field(
        "", description="name of the group, owner/name; by default the end of the path that tells it apart"
    )
    licence: str = Field("", description="SPDX expression; by default what its LICENSE files say")


class PipelineOptions(Steps):
    """Options of `cpt-ray code-pairs`."""

    cluster: ClusterOptions = ClusterOptions()
    repositories: tuple[RepositoryOptions, ...] = Field(
        (),
        description="repositories, folders and archives to mine; none: the packages installed here and the standard"
        " library",
    )
    repository_list: str = Field(
        "",
        description="text file with more of them: a path, URL or github:owner/name a line and, if it is not HEAD, a revision",
    )
    clone: CloneOptions = CloneOptions()
    site_packages: tuple[str, ...] = Field(
        (),
        description="more folders of installed packages, mined with those installed here: another environment's"
        " site-packages, or what `pip install --target` filled",
    )
    output: str = Field("code", description="folder under cluster.outputs")

    @model_validator(mode="after")
    def _one_source(self) -> PipelineOptions:
        if (self.repositories or self.repository_list) and self.site_packages:
            raise ValueError("give repositories or site_packages; run it twice, with two outputs, for both")
        return self
