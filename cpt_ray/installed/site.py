"""A documentation site rendered from the installed distributions.

One page per distribution from its description, one per module from its docstrings, dressed as real sites are: header,
breadcrumb, sidebar and footer on every page, a disallowed part that is linked all the same, and sitemaps. The site is
plain data (path, group, html), rendered in shards of whole distributions; equal input gives equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pyarrow as pa
import xxhash

from cpt_ray.artifacts import Ledger, Stage
from cpt_ray.installed import docstrings, readme
from cpt_ray.installed.distributions import Distribution, SourceFile, description
from cpt_ray.installed.options import SiteOptions

PAGES = pa.schema([("path", pa.string()), ("group", pa.string()), ("html", pa.string())])
"""`path` of the page's URL, `group` the distribution it belongs to ("" for the home page), `html` the document."""

HOST = "docs.installed.example"
"""The site's name in URLs (a reserved domain, RFC 2606): the same whatever port serves it."""

DISALLOWED = "/private/"
HOME = ""


def site_shards(distributions: Sequence[Distribution], options: SiteOptions) -> list[dict[str, Any]]:
    """The shards of the site, JSON-able, from the inventory alone.

    `max_pages` is shared out max-min fairly over the distributions' files (small distributions are taken whole, the
    large ones get equal shares), so that a few huge packages do not make up the corpus. Within a distribution files
    come in the order of the hash of their path: a sample that neither alphabet nor size has chosen.
    """
    distributions = sorted(distributions, key=lambda d: d.name)
    usable = {d.name: _candidates(d, options) for d in distributions}
    share = _fair_share([len(files) for files in usable.values()], options.max_pages)
    names = sorted(usable)
    jobs: list[dict[str, Any]] = []
    for distribution in distributions:
        files = usable[distribution.name]
        # A fifth of the files may have docstrings enough; beyond eight times the share there is no point in looking.
        looked_at = files[: 8 * share]
        jobs.append(
            {
                "distribution": Distribution(**{**vars(distribution), "files": tuple(looked_at)}).to_dict(),
                "share": share,
                "not_looked_at": len(distribution.files) - len(looked_at),
            }
        )
    jobs.sort(key=lambda job: (-len(job["distribution"]["files"]), job["distribution"]["name"]))
    count = min(options.shards, max(1, len(jobs)))
    shards: list[dict[str, Any]] = [{"names": names, "jobs": jobs[i::count], "home": None} for i in range(count)]
    shards[0]["home"] = [[d.name, d.version, d.licence, d.summary] for d in distributions]
    return shards


def render_shard(shard: Mapping[str, Any], options: SiteOptions) -> tuple[pa.Table, Ledger]:
    """The pages of one shard, and of its source files which became a page and why the others did not."""
    names = frozenset(shard["names"])
    pages: list[tuple[str, str, str]] = []
    ledger = Ledger.empty()
    if shard["home"] is not None:
        pages.append(("/", HOME, _home(shard["home"])))
    for job in shard["jobs"]:
        distribution = Distribution.from_dict(job["distribution"])
        modules, reasons = _modules(distribution, job["share"], options)
        pages += render(distribution, modules, names)
        ledger += Ledger.count("modules", reasons)
        if left := job["not_looked_at"]:
            ledger += Ledger.of("modules", read=left, kept=0, dropped={"over_budget": left})
    columns = [list(column) for column in zip(*pages, strict=True)]
    return pa.table(columns, schema=PAGES), ledger


def render(
    distribution: Distribution, modules: Mapping[str, Sequence[docstrings.Entry]], names: frozenset[str]
) -> list[tuple[str, str, str]]:
    """(path, group, html) of every page of one distribution. Pure: `modules` holds the docstrings by dotted name."""
    group, order = distribution.name, sorted(modules)
    text, content_type = description(distribution)
    pages = [(f"/{group}/", group, _distribution_page(distribution, readme.html(text, content_type), order, names))]
    for at, module in enumerate(order):
        pages.append((_path(group, module), group, _module_page(distribution, module, modules[module], order, at)))
    pages.append((f"{DISALLOWED}{group}/", group, _private_page(distribution)))
    return pages


def robots_txt() -> str:
    """The site's robots.txt (RFC 9309): everything but the private part, as fast as one likes."""
    return f"User-agent: *\nDisallow: {DISALLOWED}\nCrawl-delay: 0\n\nSitemap: http://{HOST}/sitemap.xml\n"


def sitemaps(paths: Sequence[str], per_file: int = 1000) -> dict[str, str]:
    """/sitemap.xml (an index) and the sitemaps it names (sitemaps.org 0.9), by path; without disallowed pages."""
    listed = sorted(path for path in paths if not path.startswith(DISALLOWED))
    found = {}
    for at in range(0, len(listed), per_file):
        urls = "".join(f"<url><loc>http://{HOST}{escape(path)}</loc></url>\n" for path in listed[at : at + per_file])
        found[f"/sitemap-{at // per_file}.xml"] = f"{_XML}<urlset {_NAMESPACE}>\n{urls}</urlset>\n"
    maps = "".join(f"<sitemap><loc>http://{HOST}{path}</loc></sitemap>\n" for path in found)
    found["/sitemap.xml"] = f"{_XML}<sitemapindex {_NAMESPACE}>\n{maps}</sitemapindex>\n"
    return found


_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'


# --- choice -----------------------------------------------------------------------------------------------------------


def _candidates(distribution: Distribution, options: SiteOptions) -> list[SourceFile]:
    """The files that may become a page, in hash order."""
    fitting = [f for f in distribution.files if options.min_characters <= f.size <= options.max_source_bytes]
    return sorted(fitting, key=lambda f: (xxhash.xxh3_64_intdigest(f"{distribution.name}/{f.path}".encode()), f.path))


def _fair_share(sizes: Sequence[int], total: int) -> int:
    """The largest c with sum(min(size, c)) <= total."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = math.ceil((low + high) / 2)
        if sum(min(size, middle) for size in sizes) <= total:
            low = middle
        else:
            high = middle - 1
    return low


def _modules(
    distribution: Distribution, share: int, options: SiteOptions
) -> tuple[dict[str, list[docstrings.Entry]], list[str | None]]:
    """Docstrings by module for up to `share` modules, and for each file looked at None or why it has no page."""
    modules: dict[str, list[docstrings.Entry]] = {}
    reasons: list[str | None] = []
    for file in distribution.files:
        if len(modules) >= share:
            reasons.append("over_budget")
            continue
        reason, name, found = _read_module(distribution, file, options)
        if reason is None and name in modules:
            reason = "same_module_name"
        reasons.append(reason)
        if reason is None:
            modules[name] = found
    return modules, reasons


def _read_module(
    distribution: Distribution, file: SourceFile, options: SiteOptions
) -> tuple[str | None, str, list[docstrings.Entry]]:
    name = module_name(file.path)
    try:
        with open(distribution.absolute(file), "rb") as source:
            text = source.read(options.max_source_bytes + 1)
    except OSError:
        return "unreadable", name, []
    if not docstrings.may_have_docstrings(text, options.min_characters):
        return "too_little_docstring", name, []
    try:
        found = docstrings.entries(text, name)
    except docstrings.NotPython:
        return "not_python", name, []
    if sum(len(entry.docstring) for entry in found) < options.min_characters:
        return "too_little_docstring", name, []
    return None, name, found


def module_name(path: str) -> str:
    """The dotted name of a file: `json/decoder.py` is json.decoder, `json/__init__.py` is json."""
    parts = path.removesuffix(".py").split("/")
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


# --- pages ------------------------------------------------------------------------------------------------------------


def _path(group: str, module: str) -> str:
    safe = "".join(c if (c.isalnum() and c.isascii()) or c in "._-" else "-" for c in module)
    return f"/{group}/{safe}.html"


def _document(title: str, breadcrumb: Sequence[tuple[str, str]], sidebar: str, article: str, private: str) -> str:
    crumbs = " › ".join(f'<a href="{href}">{escape(name)}</a>' for name, href in breadcrumb)
    private_link = f'<li><a href="{private}">Build information</a></li>' if private else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} | Installed documentation</title>
<style>body {{ font-family: sans-serif; }} .sidebar {{ float: left; width: 16em; }}</style>
<script>document.documentElement.className = "js";</script>
</head>
<body>
<header class="site-header" role="banner">
<nav class="navbar" role="navigation"><ul>
<li><a href="/">Home</a></li>
<li><a href="/#packages">All packages</a></li>
<li><a href="/python/">Standard library</a></li>
</ul></nav>
<form class="search" role="search"><input type="search" placeholder="Search"><button>Go</button></form>
</header>
<nav class="breadcrumb" aria-label="breadcrumb">{crumbs}</nav>
<div class="page">
<aside class="sidebar" role="complementary">{sidebar}</aside>
<main role="main"><article class="content">
{article}
</article></main>
</div>
<footer class="site-footer" role="contentinfo"><ul>
<li><a href="/">Back to the start page</a></li>
{private_link}
</ul><p>Rendered from the metadata and docstrings of the packages installed on this machine. Each text belongs to its
authors, under the licence of its package. This site uses no cookies.</p></footer>
</body>
</html>
"""


def _links(items: Sequence[tuple[str, str]]) -> str:
    return "<ul>" + "".join(f'<li><a href="{href}">{escape(name)}</a></li>\n' for name, href in items) + "</ul>"


def _home(rows: Sequence[Sequence[str]]) -> str:
    items = "".join(
        f'<li><a href="/{name}/">{escape(name)}</a> {escape(version)} ({escape(licence)}): {escape(summary)}</li>\n'
        for name, version, licence, summary in rows
    )
    article = f'<h1>Installed documentation</h1>\n<h2 id="packages">All packages</h2>\n<ul>{items}</ul>'
    return _document("Home", [("Home", "/")], "", article, "")


def _distribution_page(distribution: Distribution, body: str, modules: Sequence[str], names: frozenset[str]) -> str:
    group = distribution.name
    required = [(name, f"/{name}/") for name in distribution.requires if name in names]
    sidebar = f"<h3>Modules</h3>{_links([(module, _path(group, module)) for module in modules])}"
    if required:
        sidebar = f"<h3>Requires</h3>{_links(required)}{sidebar}"
    facts = f"Version {escape(distribution.version)}, licence {escape(distribution.licence)}"
    head = f'<h1>{escape(group)}</h1>\n<p>{escape(distribution.summary)}</p>\n<p class="post-meta">{facts}</p>\n'
    article = head + body
    return _document(group, [("Home", "/"), (group, f"/{group}/")], sidebar, article, f"{DISALLOWED}{group}/")


def _module_page(
    distribution: Distribution, module: str, entries: Sequence[docstrings.Entry], order: Sequence[str], at: int
) -> str:
    group = distribution.name
    package = module.rpartition(".")[0]
    family = [m for m in order if m == package or m.rpartition(".")[0] in (package, module)][:40]
    sidebar = f"<h3>In this package</h3>{_links([(m, _path(group, m)) for m in family])}"
    near = [("Previous", order[at - 1])] if at else []
    near += [("Next", order[at + 1])] if at + 1 < len(order) else []
    pager = _links([(f"{word}: {m}", _path(group, m)) for word, m in near])
    crumbs = [("Home", "/"), (group, f"/{group}/"), (module, _path(group, module))]
    parts = [f"<h1>{escape(module)}</h1>\n"]
    for entry in entries:
        if entry.kind != "module":
            parts.append(f'<h2 id="{escape(entry.name)}">{escape(entry.name)}</h2>\n')
        parts.append(docstrings.html(entry.docstring, 3))
    article = "".join(parts)
    page = _document(module, crumbs, sidebar, article, f"{DISALLOWED}{group}/")
    return page.replace("</article></main>", f'</article><nav class="pager">{pager}</nav></main>', 1)


def _private_page(distribution: Distribution) -> str:
    article = f"<h1>Build information of {escape(distribution.name)}</h1>\n<p>Not for robots: see robots.txt.</p>"
    crumbs = [("Home", "/"), (distribution.name, f"/{distribution.name}/")]
    return _document(f"Build of {distribution.name}", crumbs, "", article, "")


RENDER = Stage("site", version=2, gives=PAGES, unit="files", run=render_shard)
