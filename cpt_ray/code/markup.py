"""Documentation comments as each language's own tool reads them: markup in, plain text out.

A reader takes a comment's text without markers and gives what it says of the function, prose first and block tags
(`@param ...`) after it, or None where the comment is about something else: a file, a section, an instruction to a tool.
All of them take time linear in the text.
"""

from __future__ import annotations

import html
import re

# Instructions to linters, formatters, coverage and compilers; each is a line of its own.
_INSTRUCTION = re.compile(
    r"^[ \t]*(?:rubocop:|standard:|reek:|steep:|typed:|frozen_string_literal:|warn_indent:|shareable_constant_value:"
    r"|(?:file)?encoding[:=]|coding[:=]|-\*-|vim?:|!/|:(?:no|stop|start|enddoc|nodoc)[\w-]*:"
    r"|nolint\b|#?nosec\b|noinspection\b|eslint\b|eslint-|tslint:|jshint\b|jslint\b|istanbul ignore"
    r"|prettier-ignore|biome-ignore"
    r"|[cv]8 ignore|@ts-\w+|@flow\b|phpcs:|@?phpstan-ignore|@?psalm-suppress|@codeCoverageIgnore|@codingStandards\w+"
    r"|NOLINT|NOSONAR|clang-format|@formatter:|CHECKSTYLE|spell-?checker:|cspell:|codespell:|simplecov:|:simplecov|brakeman:"
    r"|LCOV_EXCL|GCOVR_EXCL|swiftlint:|ktlint-|detekt:|scalafmt:|scalastyle:|ReSharper\b|pragma:|pylint:|mypy:|noqa\b"
    r"|MARK: ?-|endregion\b|region\b)",
    re.MULTILINE,
)
_ABOUT_FILE = re.compile(
    r"\W*(?:copyright\b|\(c\) |©|licen[sc]ed? (?:to|under|:)|spdx-|this file is (?:a )?part of|permission is hereby granted"
    r"|all rights reserved|@(?:licen[sc]e|copyright|file|fileoverview|overview|module|typedef|callback|preserve)\b"
    r"|[@\\](?:file|defgroup|addtogroup|mainpage|page|dir)\b)",
    re.IGNORECASE,
)
_RULE = re.compile(r"\s*([-=*#~_/+.])\1{3,}\s*$")
_BRACE = re.compile(r"[{}]")


def _lines(text: str) -> list[str] | None:
    """The lines that are no instruction to a tool; None where the whole is a header or the title of a section."""
    if _ABOUT_FILE.match(text.lstrip()):
        return None
    lines = text.split("\n")
    if _INSTRUCTION.search(text):
        lines = [line for line in lines if not _INSTRUCTION.match(line)]
    written = [line for line in lines if line.strip()]
    if not written or _is_title(written[0].strip()):
        return None
    if len(written) > 1 and _RULE.match(written[0]) and _RULE.match(written[-1]):
        return None
    while lines and (not lines[0].strip() or _RULE.match(lines[0])):
        lines.pop(0)
    return None if not lines or _ABOUT_FILE.match(lines[0]) else lines


def _is_title(line: str) -> bool:
    """`---- Helpers ----`"""
    return len(line) > 8 and line[0] in "-=*#~_/+" and line[:3] == line[0] * 3 and line[-4:] == line[0] * 4


# --- javadoc and what came of it

_BREAKING = r"p|pre|ul|ol|dl|table|blockquote|h[1-6]|hr"
_TURNING = r"li|tr|br|dt|dd|td|th"
_INLINE = r"a|b|i|u|em|strong|tt|code|kbd|samp|var|sub|sup|small|span|cite|font"
_BREAKS = re.compile(rf"</?(?:{_BREAKING}|{_BREAKING.upper()})(?:\s[^<>]*)?/?>")
_TURNS = re.compile(rf"<(?:{_TURNING}|{_TURNING.upper()})(?:\s[^<>]*)?/?>")
_ENDS = re.compile(rf"</(?:{_TURNING}|{_TURNING.upper()})>")
_INLINES = re.compile(
    rf"<(?:{_INLINE}|EM|STRONG|TT|CODE|PRE|VAR|SUB|SUP|SPAN|FONT)(?:\s[^<>]*)?/?>|</(?:{_INLINE}|{_INLINE.upper()})>"
    r"|<(?:[abiuABIU])\s[^<>]*>|<!--[^<>]*-->"
)
_CAPITALS = re.compile(r"<([BIU])>(?=[^<>]*</\1>)")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,30});")
_INLINE_TAG = re.compile(r"\{@(\w+)\s*")
_BLOCK_TAG = re.compile(r"\s*@([A-Za-z][\w:.-]*)(.*)", re.DOTALL)


def _of_html(text: str) -> str:
    if "<" in text:
        text = _BREAKS.sub("\n\n", text)
        text = _INLINES.sub("", _CAPITALS.sub("", _ENDS.sub("", _TURNS.sub("\n", text))))
    return _ENTITY.sub(lambda entity: html.unescape(entity[0]), text) if "&" in text else text


def _inline(text: str) -> str:
    """`{@code ...}`, `{@link ...}` and their like as the words a reader sees, HTML outside of them gone."""
    out: list[str] = []
    at = 0
    while (tag := _INLINE_TAG.search(text, at)) is not None:
        end = _closing(text, tag.end())
        if end < 0:
            break
        out.append(_of_html(text[at : tag.start()]))
        body = text[tag.end() : end]
        name = tag[1]
        if name == "snippet":
            out.append(body.partition(":\n")[2].strip("\n"))  # before it stand attributes
        elif name in ("code", "literal", "index", "systemProperty", "summary", "return"):
            out.append(f"Returns {body.strip()}." if name == "return" else body.strip())
        elif name in ("link", "linkplain", "linkcode", "see", "tutorial", "value"):
            shown = _of_html(_shown(body.strip()))
            if name != "value" and out and out[-1].endswith("]"):  # [text]{@link target}
                head, bracket, words = out[-1].rpartition("[")
                out[-1], shown = (head, words[:-1]) if bracket else (out[-1], shown)
            out.append(shown)
        at = end + 1
    out.append(_of_html(text[at:]))
    return "".join(out)


def _closing(text: str, at: int) -> int:
    """Where the brace opened before `at` is closed, -1 where it is not."""
    depth = 1
    for brace in _BRACE.finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return -1


def _shown(link: str) -> str:
    """What is read of a link: its label, else its target as one writes it in prose."""
    _, bar, label = link.partition("|")
    if bar:
        return label.strip()
    depth = 0
    for i, character in enumerate(link):  # a target's parameters may hold spaces
        depth += (character == "(") - (character == ")")
        if character.isspace() and depth <= 0:
            label = link[i:].strip()
            if label:
                return label
            link = link[:i]
            break
    return re.sub(r"[#~](?=\w)", ".", link.removeprefix("module:").lstrip("#"))


def _tagged(text: str, describing: frozenset[str]) -> tuple[list[str], list[str]]:
    """Lines before the first block tag and those after; the text of a describing tag counts as before."""
    if "@" not in text:
        return text.split("\n"), []
    prose: list[str] = []
    rest: list[str] = []
    into = prose
    for line in text.split("\n"):
        tag = _BLOCK_TAG.match(line) if "@" in line else None
        if tag is None:
            into.append(line)
        elif tag[1].lower() in describing:
            into = prose
            prose += ["", tag[2].strip()] if any(map(str.strip, prose)) else [tag[2].strip()]
        else:
            into = rest
            rest.append(line)
    return prose, rest


def javadoc(text: str) -> str | None:
    """Javadoc, JSDoc, TSDoc and PHPDoc: inline tags, HTML, block tags; `@description` is the text of JSDoc."""
    lines = _lines(text)
    if lines is None:
        return None
    prose, rest = _tagged("\n".join(lines), frozenset({"description", "desc", "summary", "classdesc", "remarks"}))
    return _joined(_inline("\n".join(prose)), _inline("\n".join(rest)))


_BLANK_LINES = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


def _joined(prose: str, rest: str) -> str:
    prose = _BLANK_LINES.sub("\n\n", prose).strip("\n")
    rest = rest.strip("\n")
    return f"{prose}\n\n{rest}" if prose.strip() and rest.strip() else prose + rest


# --- Go

_GO_DIRECTIVE = re.compile(r"(?:line |extern |export |[a-z0-9]+:[a-z0-9])")
_GO_TARGET = re.compile(r"^\[([^\[\]\n]+)\]: \S+\n?", re.MULTILINE)
_GO_LINK = re.compile(r"\[(?<![\w\]\)]\[)(\*?[A-Za-z_][\w./]*)\](?![\w(\[:])")


def godoc(text: str) -> str | None:
    """Go: directives such as `//go:noinline` are no text; `[Name]` is a link, and so is `[words]` with `[words]: url`."""
    kept = [line for line in text.split("\n") if not (line[:1].strip() and _GO_DIRECTIVE.match(line))]
    lines = _lines("\n".join(kept))
    if lines is None:
        return None
    text = "\n".join(lines)
    if "]: " in text:
        linked = _GO_TARGET.findall(text)
        text = _GO_TARGET.sub("", text).rstrip("\n")
        for words in linked:
            text = text.replace(f"[{words}]", words)
    return _GO_LINK.sub(r"\1", text)


# --- Ruby

_TOMDOC = re.compile(r"\s*(?:Public|Internal|Private|Deprecated): ?")
_RDOC_TITLE = re.compile(r"={1,6} ?\w")
_RBS = re.compile(r"^(?::[ (].*|\| ?\(.*)$", re.MULTILINE)
"""A type of rbs-inline: `#: (Integer) -> String`."""
_RDOC_CODE = re.compile(r"(?<![\w+])\+([\w:#.?!@=\[\]]+)\+(?![\w+])")
_RDOC_TAG = re.compile(r"</?(?:tt|code|b|i|em)>")
_RDOC_LINK = re.compile(r"\{([^{}\[\]]+)\]?\}\[[^\[\]]*\]|(?<!\S)(\w+)\[(?:https?:|rdoc-ref:|link:)[^\[\]]*\]")
_YARD_LINK = re.compile(r"\{((?:[A-Z]|[#.]\w|::)[\w:#.?!=]*(?:\([^(){}]*\))?)(?:[ ]([^{}]+))?\}")


def rdoc(text: str) -> str | None:
    """RDoc and YARD: `#--` to `#++` is hidden, `call-seq:` no prose, tags may stand before the text, directives (`@!method`)
    say something of another thing, and a title above the text is none of it."""
    if "--" in text or "++" in text:
        text = _without_hidden(text)
    if "-> " in text:
        text = _RBS.sub("", text)
    lines = _lines(text)
    if lines is None:
        return None
    prose: list[str] = []
    rest: list[str] = []
    state = "prose"
    marked = "@" in text or "call-seq:" in text
    if not marked:
        prose = lines
    for line in lines if marked else ():
        indented = line[:1] in (" ", "\t")
        if "call-seq:" in line and line.lstrip(" \t:").startswith("call-seq:"):
            state = "call"
        elif line.startswith("@!"):
            state = "directive"
        elif state == "directive" and indented:
            continue
        elif "@" in line and _BLOCK_TAG.match(line) and not line.startswith("  "):
            state = "tag"
            rest.append(line)
        elif state == "tag" and (indented and line.strip()):
            rest.append(line)
        elif state == "call" and line.strip():
            continue
        else:
            state = "prose"
            prose.append(line)
    while prose and (not prose[0].strip() or _RDOC_TITLE.match(prose[0])):
        prose.pop(0)
    if prose:
        prose[0] = _TOMDOC.sub("", prose[0], count=1)
    plain = not any(mark in text for mark in "{[+<")
    return _joined(*("\n".join(part if plain else map(_yard_words, part)) for part in (prose, rest)))


def _without_hidden(text: str) -> str:
    shown: list[str] = []
    hidden = False
    for line in text.split("\n"):
        if line.strip() in ("--", "++"):
            hidden = line.strip() == "--"
        elif not hidden:
            shown.append(line)
    return "\n".join(shown)


def _yard_words(line: str) -> str:
    if "{" in line or "[" in line:
        line = _RDOC_LINK.sub(lambda link: link[1] or link[2], line)
        line = _YARD_LINK.sub(lambda link: link[2] or link[1].lstrip("#."), line)
    if "+" in line:
        line = _RDOC_CODE.sub(r"\1", line)
    return _RDOC_TAG.sub("", line) if "<" in line else line


# --- Rust, Kotlin, Scala, Swift: Markdown or wiki text with links to names

_CODE_OR_LINK = re.compile(
    r"(?P<code>^[ \t]*(?P<fence>```|~~~).*?(?:^[ \t]*(?P=fence)|\Z)|`[^`\n]+`)"
    r"|\[(?<![\w\]\)!#&]\[)(?P<words>(?:`[^`\n]*`|[^`\[\]\n]){1,200})\]"
    r"(?:\([^()\n]*(?:\([^()\n]*\)[^()\n]*)?\)|\[[^\[\]\n]*\]|(?P<alone>(?![\w(\[:])))",
    re.MULTILINE | re.DOTALL,
)
_TARGET = re.compile(r"^[ \t]*\[[^\[\]\n]+\]:[ \t]+\S.*\n?", re.MULTILINE)
_NAME = re.compile(r"(?:\w+@)?([A-Za-z_][\w.:]*(?:\(\)|!)?)\Z")
"""Of a link that has no target; rustdoc shows it without its kind (`struct@Name`)."""
_SWIFT_FIELD = re.compile(
    r"\s*[-*+] (?:parameters?\b[^:]*|returns|throws|complexity|(?:pre|post)condition|requires|invariant|note|warning"
    r"|important|attention|remark|tip|experiment|example|bug|since|version|author|see ?also|todo)\s*:",
    re.IGNORECASE,
)
_WIKI_LINK = re.compile(r"\[\[([^\[\]\s]+)(?:[ \t]([^\[\]]+))?\]\]")


def markdown(text: str) -> str | None:
    """KDoc and Swift's markup: `[Name]` is a link; KDoc's tags and Swift's fields come after the prose."""
    lines = _lines(text)
    if lines is None:
        return None
    text = "\n".join(lines)
    if "[" in text:
        text = _CODE_OR_LINK.sub(_unlinked, _TARGET.sub("", text))
    prose, rest = _tagged(text, frozenset())
    for i, line in enumerate(prose):
        if _SWIFT_FIELD.match(line):
            prose, rest = prose[:i], prose[i:] + rest
            break
    return _joined("\n".join(prose), "\n".join(rest))


def _unlinked(found: re.Match[str]) -> str:
    """Code as it is, a link as its words; alone in brackets they are a link if they are code or a name."""
    words = found["words"]
    if words is None:
        return found[0]
    if found["alone"] is None or (words[0] == words[-1] == "`"):
        return words
    named = _NAME.match(words)
    return named[1] if named else found[0]


_RUST_CODE = re.compile(r"(^[ \t]*(?:```|~~~)([^\n]*)\n)(.*?)(^[ \t]*(?:```|~~~)[^\n]*|\Z)", re.MULTILINE | re.DOTALL)
_RUST_WORD = re.compile(r"rust|should_panic|no_run|ignore.*|compile_fail|edition\d+|E\d{4}|")
_HIDDEN = re.compile(r"^[ \t]*#(?: [^\n]*)?(?:\n|\Z)", re.MULTILINE)


def rustdoc(text: str) -> str | None:
    """rustdoc: lines of an example that begin with `# ` are not shown."""
    if "# " in text and ("```" in text or "~~~" in text):
        text = _RUST_CODE.sub(_shown_code, text)
    return markdown(text)


def _shown_code(found: re.Match[str]) -> str:
    if not all(_RUST_WORD.fullmatch(word) for word in re.split(r"[\s,{}]+", found[2])):
        return found[0]  # another language's
    return found[1] + _HIDDEN.sub("", found[3]) + found[4]


def scaladoc(text: str) -> str | None:
    """Scaladoc: wiki links, `{{{code}}}`, Javadoc's tags and HTML."""
    found = javadoc(text.replace("{{{", "\n\n").replace("}}}", "\n\n"))
    if found is None:
        return None
    return re.sub(r"'''?(\S[^'\n]*)'''?", r"\1", _WIKI_LINK.sub(lambda link: link[2] or link[1], found))


# --- C and C++

_COMMAND = re.compile(r"\s*[@\\]([A-Za-z]+)(?:\[[\w, ]*\])?(?=\s|$)(.*)")
_WORD_COMMAND = re.compile(r"[@\\](?:c|p|a|e|em|b|ref|link)\s+(\S+)")
_GROUP = re.compile(r"\s*[@\\]name\b")
_KERNEL = re.compile(r"\s*(\w+(?:\(\))?)(?:\s+--?|:)\s+(?=\S)")
_PARAMETER = re.compile(r"\s*@[\w.]+:")
_RETURNS = re.compile(r"\s*(?:Returns?|Context):")
"""Of kernel-doc and GTK-Doc."""
_GTK = re.compile(r"\s*\w+_\w+:(?:\s*\([^()]*\))*\s*")
"""GTK-Doc begins with the name, annotations behind it; the text comes after the parameters."""
_GROUPS = re.compile(r"^[ \t]*[@\\][{}][ \t]*$", re.MULTILINE)
"""Where the members of a group begin and end."""
_OF_A_LINE = frozenset({"ingroup", "fn", "relates", "related", "relatesalso", "memberof"})
_DESCRIBING = frozenset({"brief", "short", "details", "description"})


def doxygen(text: str) -> str | None:
    """Doxygen: commands by `@` or `\\`, `@brief` is the summary; the kernel's `name() - what it does` too.

    A comment that begins with `@returns` says so what the function does.
    """
    lines = None if _GROUP.match(text) else _lines(_GROUPS.sub("", text))
    if lines is None:
        return None
    prose: list[str] = []
    rest: list[str] = []
    into = prose
    depth = 0  # of the parentheses of a declaration
    for line in lines:
        if depth > 0:
            depth += line.count("(") - line.count(")")
            continue
        command = _COMMAND.match(line)
        if command is None and (_PARAMETER.match(line) or (any(map(str.strip, prose)) and _RETURNS.match(line))):
            into = rest
            rest.append(line)
        elif command is None or command[1] in ("c", "p", "a", "e", "em", "b", "ref", "link"):
            if not line.strip():
                into = prose  # a paragraph ends what a command governs
            into.append(line)
        elif command[1] in _DESCRIBING:
            into = prose
            prose += ["", command[2].strip()] if any(map(str.strip, prose)) else [command[2].strip()]
        elif command[1] in _OF_A_LINE:
            depth = line.count("(") - line.count(")")  # the next line is no more of it where they are in pairs
        elif command[1] in ("return", "returns") and not rest and not any(map(str.strip, prose)):
            prose.append(f"Returns {command[2].strip()}")
        else:
            into = rest
            rest.append(line)
    first = next((i for i, line in enumerate(prose) if line.strip()), 0)
    if prose:
        named = _KERNEL.match(prose[first])
        if _GTK.fullmatch(prose[first]):
            prose[first] = ""
        elif named is not None and ("_" in named[1] or named[1].endswith(")") or any(map(_PARAMETER.match, rest))):
            prose[first] = prose[first][named.end() :]
    return _joined(*(_WORD_COMMAND.sub(r"\1", _of_html("\n".join(part))) for part in (prose, rest)))


# --- C#

_SEE = re.compile(
    r"<(?:see|seealso|paramref|typeparamref)\s+(?:cref|name|langword|href)\s*=\s*[\"'](?:[A-Z]:)?([^\"'<>]*)[\"']\s*"
    r"(?:/?>(?![^<>]+</see)|>([^<>]+)</see(?:also)?>)"
)
_FIELD = re.compile(r"<(param|typeparam|exception)\s+(?:name|cref)\s*=\s*[\"']([^\"'<>]*)[\"']\s*>")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_XML_PARAGRAPH = re.compile(r"</?(?:para|code|list|p)(?:\s[^<>]*)?/?>")
_XML_LINE = re.compile(r"</?(?:item|listheader|term|description|br)(?:\s[^<>]*)?/?>")
_XML_TAG = re.compile(r"</?(?:[a-z]\w*)(?:\s[^<>]*)?/?>")


def xmldoc(text: str) -> str | None:
    """C#: `<summary>` first, then remarks, then the rest; references are the words they show."""
    lines = _lines(text)
    if lines is None:
        return None
    text = "\n".join(lines)
    if "<![" in text:
        text = _CDATA.sub(lambda data: html.escape(data[1]), text)
    text = _SEE.sub(lambda see: see[2] or see[1].replace("{", "<").replace("}", ">"), text)
    summary, rest = _element(text, "summary")
    remarks, rest = _element(rest, "remarks")
    rest = _FIELD.sub(r"\n@\1 \2 ", rest).replace("<returns>", "\n@returns ").replace("<example>", "\n@example ")
    prose = "\n\n".join(part.strip() for part in (summary, remarks) if part.strip())
    return _joined(*(_of_xml(part) for part in (prose, rest)))


def _element(text: str, name: str) -> tuple[str, str]:
    """What stands in the first element of that name, and the text without it."""
    before, opening, after = text.partition(f"<{name}>")
    inner, closing, behind = after.partition(f"</{name}>")
    return (inner, before + behind) if opening and closing else ("", text)


def _of_xml(text: str) -> str:
    text = _XML_LINE.sub("\n", _XML_PARAGRAPH.sub("\n\n", text))
    return html.unescape(_XML_TAG.sub("", text))
