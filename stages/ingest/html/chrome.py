"""Names of elements that are not a page's text: navigation, footers, sidebars, comments, banners.

Names are compared as a whole (``comments``, ``site-footer``), never as substrings: ``comments-open`` is a theme's class
for an article. A name is only a suggestion; the element's contents decide (see ``main_text.py``).
"""

import re
from functools import lru_cache

NAVIGATION, FOOT, HEAD, SIDE, ASIDE = "navigation", "foot", "head", "side", "aside"
COMMENTS, META, EXTRA, BANNER, FORM = "comments", "meta", "extra", "banner", "form"
PROMO = "promo"

TAGS = {"nav": NAVIGATION, "footer": FOOT, "header": HEAD, "aside": ASIDE, "form": FORM, "dialog": BANNER}
ROLES = {
    "navigation": NAVIGATION,
    "menu": NAVIGATION,
    "menubar": NAVIGATION,
    "tablist": NAVIGATION,
    "toolbar": NAVIGATION,
    "search": FORM,
    "contentinfo": FOOT,
    "banner": HEAD,
    "complementary": ASIDE,
    "dialog": BANNER,
    "alertdialog": BANNER,
}
WORDS = {
    NAVIGATION: """
        nav navbar navigation navmenu menu mainmenu topmenu submenu dropdown breadcrumb breadcrumbs crumbs
        pagination pager paging pagenav toc tableofcontents table-of-contents localtoc globaltoc sphinxsidebar
        skip-links tabs page-numbers prev-next prevnext next-prev navlinks nav-links navigation-links bottomnav
        topnav top-nav sidenav jumplist action-bar main-right right-col right-column rightcol right-side rightside
        content-right crumb path gnav navbox catlinks mw-jump-link printfooter
    """,
    FOOT: """
        footer foot colophon copyright copyrights legal site-info siteinfo bottom-bar footnav
    """,
    HEAD: """
        site-header masthead topbar top-bar page-header global-header siteheader header-top
    """,
    SIDE: """
        sidebar side-bar sidebars widget widgets widget-area rail right-rail left-rail sidecol side-column leftbar
        rightbar sidemenu side
    """,
    COMMENTS: """
        comments comment-list commentlist comments-list comments-area comment-area comment-section comments-section
        disqus_thread disqus-thread commentarea comment-thread comment-tree comment
        comments-container js-comments-container
    """,
    META: """
        byline dateline post-meta entry-meta article-meta postmeta meta-info post-info posted-on post-date
        entry-date published timestamp post-author tags taglist tag-list post-tags entry-tags
        tags-links cat-links post-footer entry-footer article-footer entry-utility reading-time postdetails
        post-details
    """,
    EXTRA: """
        share sharing sharedaddy share-buttons share-links social social-links social-media social-share
        social-icons follow follow-us addthis addtoany related related-posts related-articles related-links
        related-stories recommended recommendations read-more-links read-next popular popular-posts trending
        related-topics related-content related-news relatednews relatedarticles related-items related-products
        print-header print-footer print-only more-topics suggested-topics more-news ranking rank hot hot-news
        hotnews sns snslist sns-list comment-respond respond comment-form more-stories you-may-like yarpp
        jp-relatedposts login signin outbrain taboola search searchbox search-box search-form language-switcher
        lang-switch languages toolbar post-navigation post-nav feedback rating ratings edit-page edit-this-page
        was-this-helpful
    """,
    PROMO: """
        newsletter newsletter-signup subscribe subscription signup sign-up ad ads advert advertisement
        advertising adsbygoogle sponsored sponsor promo promoted promotion donate author-box author-bio
    """,
    BANNER: """
        cookie cookies cookie-banner cookie-notice cookie-consent cookiebar consent gdpr cc-window modal popup
        overlay lightbox toast alert-banner announcement-bar notification-bar onetrust-consent-sdk
    """,
}
# Last words of a name such as ``article__newsletter-promo``: boxes that ask for something, and about the author.
NOUNS = {
    PROMO: """
        newsletter newsletters signup subscribe subscription subscriptions paywall promo promos promotion promobox
        crosspromo printonly advert adverts advertisement advertisements ad ads sponsor sponsors donate donation
        donations bio authorbio authorinfo aboutauthor gallery slideshow carousel slider lightbox
    """,
    EXTRA: """
        related recirc recirculation recommended recommendations share sharing sharebar socials trending
        popular mostpopular mostread morenews morestories readmore relatedposts relatedarticles ticker
    """,
    META: "byline bylines dateline pubdate credits postmetadata",
}
ANYWHERE = frozenset(["newsletter", "newsletters", "newsletterbox", "taboola", "outbrain"])  # in a name
NOUN_KINDS = {word: kind for kind, words in NOUNS.items() for word in words.split()}
# Last words of a name such as ``story-header__pub-date``: a part of a line that tells about the text.
ABOUT = """
    author authors authorname byline bylines dateline date dates datetime time timestamp pubdate published updated
    modified credit credits copyright share shares sharing sharebar socials views readtime kicker category categories
    tags tag eyebrow
"""
META_NOUNS = frozenset(ABOUT.split())
META_PROPERTIES = frozenset(["author", "datePublished", "dateModified", "dateCreated", "copyrightHolder"])
PARTS = re.compile(r"[-_]+")
KINDS = {word: kind for kind, words in WORDS.items() for word in words.split()}
# Affixes that such a word may have.
BEFORE = re.compile(
    r"^(?:l|m|c|o|js|wp|wp-block|site|page|global|main|post|entry|article|blog|the|primary|secondary|md|theme|vp)-"
)
AFTER = re.compile(
    r"-(?:wrapper|wrap|container|inner|outer|area|section|block|box|bar|panel|module|region|component|holder|menu|links|list"
    r"|content|widget|nav|column|col|\d+)$"
)
# Panels of tabs and accordions by name (``tab-pane``, ``ui-tabs-panel``, ``faq-answer``): text that a reader unfolds.
PANEL = re.compile(r"(?:^|.*[-_])(?:tabs?|accordion|faq)[-_]*(?:panel|pane|content|body|answer)(?:(?:--|__).*)?")
# Small parts of a line that are not part of its sentence, and line numbers of code.
SKIPPED = frozenset(
    [
        "headerlink",
        "anchor",
        "anchorjs-link",
        "anchor-link",
        "hash-link",
        "heading-anchor",
        "permalink",
        "mw-editsection",
        "sr-only",
        "screen-reader-text",
        "visually-hidden",
        "visuallyhidden",
        "skip-link",
        "skip-to-content",
        "skip-nav",
        "linenos",
        "lineno",
        "linenumber",
        "linenumbers",
        "line-number",
        "line-numbers",
        "line-numbers-rows",
        "blob-num",
        "gutter",
        "hljs-ln-numbers",
        "linenodiv",
        "rouge-gutter",
        "copy-button",
        "copybtn",
        "clipboard-copy",
        "mathjax",
        "mathjax_display",
        "mathjax_preview",
        "mathjax_svg",
        "noprint",
        "reference-accessdate",
    ]
)
# Of these, line numbers, and names that themes also give to headings, columns and whole articles.
LINE_NUMBERS = frozenset(name for name in SKIPPED if name.startswith("line") or "gutter" in name)
ALSO_THEMES = SKIPPED - LINE_NUMBERS - {"sr-only", "screen-reader-text", "visually-hidden", "visuallyhidden"}
# An <aside> with one of these names is part of the text: a quotation in a post, a box in a manual.
QUOTED = """
    quote pullquote pull-quote admonition callout note tip hint warning caution important danger info epigraph footnotes
    footnote sidenote marginnote example definition
"""
KEPT_ASIDES = frozenset(QUOTED.split())
CODE_LINES = frozenset({"blob-code", "blob-code-inner", "hljs-ln-code", "js-file-line", "code-line"})
MAIN = frozenset(
    [
        "main",
        "content",
        "maincontent",
        "main-content",
        "post-content",
        "entry-content",
        "article-content",
        "article-body",
        "articlebody",
        "post-body",
        "postbody",
        "fatitem",
        "post",
        "entry",
        "story-body",
        "markdown-body",
        "mw-parser-output",
        "mw-content-text",
        "bodycontent",
        "page-content",
        "body-content",
        "rst-content",
        "document",
        "hentry",
        "prose",
        "theme-doc-markdown",
    ]
)
DISCUSSION = frozenset({"hnmain", "comment-tree", "commentarea", "nestedlisting", "threadlist"})


@lru_cache(maxsize=4096)  # pages repeat the names of their theme
def kind_of(names: tuple[str, ...]) -> str | None:
    """Return the kind of chrome that an element's classes and id suggest, or None."""
    if "widget" in names and "blog" in names:
        return None  # Blogger's posts are a widget beside others
    for name in names:
        if name in KINDS:
            return KINDS[name]
        stem = name.split("__")[0].split("--")[0].replace("_", "-")
        for _ in range(3):
            if stem in KINDS:
                return KINDS[stem]
            shorter = AFTER.sub("", BEFORE.sub("", stem))
            if shorter == stem:
                break
            stem = shorter
        if not ANYWHERE.isdisjoint(PARTS.split(name)):
            return PROMO
        noun = last_word(name)
        if noun in NOUN_KINDS:
            return NOUN_KINDS[noun]
    return None


@lru_cache(maxsize=4096)  # pages repeat the names of their theme
def names_chrome(name: str) -> bool:
    """Return whether a name by itself suggests that an element is no text, or not a part of its sentence."""
    return kind_of((name,)) is not None or name in SKIPPED or last_word(name) in META_NOUNS


def is_panel(attributes: dict[str, str | None], names: tuple[str, ...]) -> bool:
    """Return whether an element is part of the text even if it is hidden at first, such as a panel of tabs."""
    if attributes.get("role") == "tabpanel" or attributes.get("hidden") == "until-found":
        return True
    return any(is_panel_name(name) for name in names)


@lru_cache(maxsize=4096)  # pages repeat the names of their theme
def is_panel_name(name: str) -> bool:
    """Return whether a class or id is that of a panel."""
    return PANEL.fullmatch(name) is not None


def last_word(name: str) -> str:
    """Return the last word of a name, without a modifier (``--large``), a hash (``___x3f9``) or a number."""
    words = PARTS.split(name.split("--", maxsplit=1)[0].split("___", maxsplit=1)[0].strip("-_"))
    return words[-2] if len(words) > 1 and words[-1].isdigit() else words[-1]


@lru_cache(maxsize=4096)  # pages repeat the names of their theme
def is_meta(names: tuple[str, ...]) -> bool:
    """Return whether a name's last word says that the element tells about the text: its author, date, credit."""
    return any(last_word(name) in META_NOUNS for name in names)


@lru_cache(maxsize=4096)
def is_caption(names: tuple[str, ...]) -> bool:
    """Return whether a name's last word says that the element is a caption."""
    return any(last_word(name) == "caption" for name in names)
