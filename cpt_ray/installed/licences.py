"""SPDX licence of a distribution from its metadata; "unknown" wherever the metadata leaves it open."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cpt_ray.licences import texts_licence

# Trove classifiers that name one SPDX licence. "BSD License" names a family, so it is not here; "Apache Software
# License" is, because the only other Apache licence on the OSI's list was superseded before there was trove.
CLASSIFIERS: Mapping[str, str] = {
    "Apache Software License": "Apache-2.0",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}

# The free-text License field, lower case, without "license", "the", "version" and punctuation.
SHORT_NAMES: Mapping[str, str] = {
    "0bsd": "0BSD",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache software": "Apache-2.0",
    "apache software 2.0": "Apache-2.0",
    "bsd 2 clause": "BSD-2-Clause",
    "2 clause bsd": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "modified bsd": "BSD-3-Clause",
    "isc": "ISC",
    "mit": "MIT",
    "mit 0": "MIT-0",
    "mpl 2.0": "MPL-2.0",
    "mozilla public 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psf 2.0": "PSF-2.0",
    "psfl": "PSF-2.0",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
}


def spdx(expression: str | None, classifiers: Sequence[str], field: str | None, texts: Sequence[str] = ()) -> str:
    """The SPDX expression of a distribution, or "unknown".

    In this order: `License-Expression` (PEP 639), the one trove classifier that names a licence, the short `License`
    field, and the licence texts that come with the distribution, together as a repository's are. Several classifiers
    leave open whether they mean AND or OR, and "BSD License" leaves the number of clauses open: those are settled by the
    later sources or stay unknown.
    """
    if expression and expression.strip():
        return expression.strip()
    named = {name.rsplit(" :: ", 1)[-1] for name in classifiers if name.startswith("License ::")}
    named.discard("OSI Approved")
    if len(named) == 1 and (found := CLASSIFIERS.get(next(iter(named)))):
        return found
    if field and (found := SHORT_NAMES.get(_plain(field))):
        return found
    return texts_licence([*texts, *([field] if field and len(field) > 200 else [])])


def _plain(field: str) -> str:
    words = re.sub(r"[^a-z0-9.]+", " ", field.lower()).split()
    return " ".join(word for word in words if word not in ("license", "licence", "the", "version", "v"))
