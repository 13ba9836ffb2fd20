"""Formulas of a page as TeX between dollar signs, the usual form in mathematical corpora.

Pages contain the TeX source in addition to the displayed formula (MathML's annotation or ``alttext``, MathJax's
scripts, alternative texts of images); MathML without TeX is linearised.
"""

import re

from selectolax.lexbor import LexborNode

DISPLAY_STYLE = re.compile(r"^\{\\(?:display|text)style\s*(.*)\}$", re.DOTALL)
ALT_CLASSES = frozenset({"tex", "latex", "math", "mwe-math-fallback-image-inline", "mwe-math-fallback-image-display"})
SCRIPTS = {"msup": ("{}^{}",), "msub": ("{}_{}",), "msubsup": ("{}_{}^{}",), "mover": ("{}^{}",), "munder": ("{}_{}",)}
MAX_DEPTH = 50


def formula_of(math: LexborNode) -> str:
    """Return a ``<math>`` element as text."""
    annotation = math.css_first("annotation[encoding='application/x-tex']")
    source = annotation.text_lexbor() if annotation else (math.attributes.get("alttext") or "")
    tex = clean(source) or " ".join(linear(math).split())
    return delimited(tex, math.attributes.get("display") == "block") if tex else ""


def clean(tex: str | None) -> str:
    """Return TeX without MediaWiki's wrapper."""
    tex = " ".join((tex or "").split())
    found = DISPLAY_STYLE.match(tex)
    return found[1].strip() if found else tex


def delimited(tex: str, display: bool = False) -> str:
    """Return TeX between dollar signs."""
    return f"$${tex}$$" if display else f"${tex}$"


def linear(node: LexborNode, depth: int = 0) -> str:
    """Return MathML on one line: ``x^2``, ``(a + b)/(c)``, ``sqrt(x)``."""
    if depth > MAX_DEPTH:
        return ""
    parts = []
    for child in node.iter(include_text=True):
        if child.tag == "-text":
            parts.append((child.text_content or "").strip())
        elif not (child.tag or "").startswith("annotation"):
            parts.append(linear(child, depth + 1))
    parts = [part for part in parts if part]
    tag = node.tag or ""
    if tag in SCRIPTS and len(parts) == SCRIPTS[tag][0].count("{}"):
        return SCRIPTS[tag][0].format(parts[0], *map(grouped, parts[1:]))
    if tag == "mfrac" and len(parts) == 2:
        return f"{grouped(parts[0])}/{grouped(parts[1])}"
    if tag == "msqrt":
        return f"sqrt({' '.join(parts)})"
    return " ".join(parts)


def grouped(part: str) -> str:
    """Return a part in parentheses if it is more than one sign or number."""
    return part if part.isalnum() else f"({part})"
