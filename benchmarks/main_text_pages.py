"""Sixty small pages whose main text is marked by hand: thirty layouts of the web, each in two languages.

What is between ``⟦`` and ``⟧`` is the page's main text; everything else is its chrome. ``{a}``, ``{b}`` and ``{c}`` are
paragraphs of prose. The layouts are those of public bug reports and of the systems that made most pages: WordPress,
Drupal, MediaWiki, phpBB, Discourse, Stack Overflow, Sphinx, Javadoc, MkDocs, Docusaurus, Jekyll, ASP.NET and pages
without any system.
"""

import re

from charsets import TEXTS

NAV = '<nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li><li><a href="/about">About us</a></li></ul></nav>'
FOOTER = '<footer><p>© 2026 Example Media. All rights reserved.</p><ul><li><a href="/p">Privacy</a></li></ul></footer>'
SIDE = (
    '<div id="sidebar" class="sidebar"><h3>Recent posts</h3><ul><li><a href="/1">Ten ways to save money</a></li><li>'
    '<a href="/2">The best beaches</a></li></ul></div>'
)
COMMENTS = (
    '<div id="comments" class="comments-area"><h2>2 comments</h2><ol class="comment-list"><li class="comment"><p>Great post, '
    'thank you for sharing!</p></li><li class="comment"><p>I do not agree with this at all.</p></li></ol><div id="respond" '
    'class="comment-respond"><h3>Leave a reply</h3><form><label>Name</label><input><textarea></textarea><button>Post'
    "</button></form></div></div>"
)
LAYOUTS: dict[str, str] = {
    "WordPress post": NAV
    + '<div id="page"><header class="site-header"><a href="/">My blog</a></header><div id="primary"><main><article class="post '
    'comments-open"><h1 class="entry-title">⟦Heading of the post⟧</h1><div class="entry-meta">Posted on <time>1 May</time> by '
    '<a href="/x">Ann</a></div><div class="entry-content"><p>⟦{a}⟧</p><figure class="wp-block-table"><table><tr><th>⟦Year⟧</th>'
    "<th>⟦Count⟧</th></tr><tr><td>⟦1801⟧</td><td>⟦8,893⟧</td></tr></table><figcaption>⟦Census of the parish⟧</figcaption></figure>"
    '<p>⟦{b}⟧</p></div><footer class="entry-footer">Filed under: <a href="/c">News</a></footer></article>'
    + COMMENTS
    + "</main></div>"
    + SIDE
    + "</div>"
    + FOOTER,
    "plain page with lists": "<h1>⟦Soup⟧</h1><p>⟦{a}⟧</p><ul><li>⟦Two eggs⟧</li><li>⟦Salt⟧<ul><li>⟦Sea salt⟧</li></ul></li></ul>"
    "<p>⟦{b}⟧</p><ol><li>⟦Wash⟧</li><li>⟦Cut⟧</li></ol><p>⟦{c}⟧</p>",
    "links at the head": '<ul><li><a href="/">Home</a></li><li><a href="/b">Boats</a></li><li><a href="/c">Contact</a></li></ul>'
    '<h1>⟦Boats⟧</h1><p>⟦{a}⟧</p><p>⟦{b}⟧</p><p><a href="/">Back to the start</a></p>',
    "Jekyll": NAV
    + '<div class="wrapper"><article class="post h-entry"><header class="post-header"><h1>⟦How to measure a circle⟧</h1><p class='
    '"post-meta"><time>2 Jun 2024</time></p></header><div class="post-content"><p>⟦{a}⟧</p><figure class="highlight"><pre><code '
    'class="language-ruby"><span class="k">⟦def</span> area(r)\n  3.14 * r\nend⟧</code></pre></figure><p>⟦{b}⟧</p></div></article>'
    '</div><footer class="site-footer"><p>A site about circles</p></footer>',
    "Hexo code": '<header class="header"><a href="/">Logs of Li</a></header><article class="article"><h1>⟦Notes⟧</h1><p>⟦{a}⟧</p>'
    '<figure class="highlight python"><table><tr><td class="gutter"><pre><span class="line">1</span><br><span class="line">2</span>'
    '</pre></td><td class="code"><pre><span class="line">⟦x = 1⟧</span><br><span class="line">⟦print(x)⟧</span></pre></td></tr>'
    '</table></figure><p>⟦{b}⟧</p></article><nav class="post-nav"><a href="/p">Older post</a></nav>',
    "MediaWiki": '<div id="mw-navigation"><div role="navigation"><ul><li><a href="/m">Main page</a></li><li><a href="/r">Random'
    '</a></li></ul></div></div><div id="content" class="mw-body" role="main"><h1>⟦Ferry⟧</h1><div id="bodyContent"><div id="toc" '
    'class="toc"><ul><li><a href="#1">1 History</a></li><li><a href="#2">2 Ships</a></li></ul></div><div class="mw-parser-output">'
    '<p>⟦{a}⟧</p><h2>⟦History⟧<span class="mw-editsection">[<a href="/e">edit</a>]</span></h2><p>⟦{b}⟧</p><ul><li>⟦The first ship⟧'
    '</li><li>⟦The second ship⟧</li></ul><table class="wikitable"><tr><th>⟦Year⟧</th><td>⟦1950⟧</td></tr></table></div></div></div>'
    + FOOTER,
    "MediaWiki formula": '<div id="content" role="main"><h1>⟦Energy⟧</h1><p>⟦{a}⟧</p><p>⟦The law ⟧<span class="mwe-math-element">'
    '<span class="mwe-math-mathml-inline" style="display: none;"><math alttext="{\\displaystyle E=mc^{2}}"><semantics><mrow><mi>E'
    '</mi><mo>=</mo><mi>m</mi></mrow><annotation encoding="application/x-tex">{\\displaystyle ⟦E=mc^2⟧}</annotation></semantics>'
    '</math></span><img class="mwe-math-fallback-image-inline" alt="{\\displaystyle E=mc^2}"></span>⟦ is well known.⟧</p><p>⟦{b}⟧'
    "</p></div>",
    "phpBB": '<div id="page-header"><h1>Pump forum</h1><ul class="navlinks"><li><a href="/f">Board index</a></li><li><a href="/q">FAQ'
    '</a></li></ul></div><div id="page-body"><h2>⟦The pump stops⟧</h2><div class="post bg1"><div class="postbody"><p class="author">'
    'by user1</p><div class="content">⟦{a}⟧</div></div></div><div class="post bg2"><div class="postbody"><p class="author">by user2'
    '</p><div class="content">⟦{b}⟧</div></div></div></div><div id="page-footer"><ul class="navlinks"><li><a href="/t">The team</a>'
    "</li></ul></div>",
    "Stack Overflow": '<header class="s-topbar"><a href="/">Questions</a><form role="search"><input></form></header><div id="content">'
    '<h1>⟦How do I wait?⟧</h1><div id="mainbar" role="main"><div class="question"><div class="s-prose"><p>⟦{a}⟧</p><pre><code>⟦x = 1⟧'
    '</code></pre></div></div><div id="answers"><div class="answer"><div class="s-prose"><p>⟦{b}⟧</p></div></div></div></div><div id='
    '"sidebar"><h4>Hot network questions</h4><ul><li><a href="/1">Why is it so?</a></li></ul></div></div>' + FOOTER,
    "Hacker News": '<table id="hnmain"><tr><td><span class="pagetop"><a href="/">Hacker News</a> | <a href="/new">new</a> | <a href="/t">'
    'threads</a></span></td></tr><tr><td><table class="fatitem"><tr><td><a href="/i">⟦Ask: which pump?⟧</a></td></tr></table><table '
    'class="comment-tree"><tr class="athing comtr"><td><div class="comment"><div class="commtext c00">⟦{a}⟧</div></div></td></tr><tr '
    'class="athing comtr"><td><div class="comment"><div class="commtext c00">⟦{b}⟧</div></div></td></tr></table></td></tr></table>',
    "old Reddit": '<div id="header"><ul class="tabmenu"><li><a href="/c">comments</a></li></ul></div><div class="side"><form id="search">'
    '<input></form></div><div class="commentarea"><div class="sitetable nestedlisting"><div class="thing comment"><div class="md"><p>⟦'
    '{a}⟧</p></div></div><div class="thing comment"><div class="md"><p>⟦{b}⟧</p></div></div></div></div>',
    "Discourse": '<header class="d-header"><a href="/">Forum</a></header><main><h1>⟦A topic⟧</h1><div class="post-stream"><article><div '
    'class="cooked"><p>⟦{a}⟧</p></div></article><article><div class="cooked"><p>⟦{b}⟧</p><blockquote><p>⟦{c}⟧</p></blockquote></div>'
    "</article></div></main>",
    "Sphinx": '<div class="related" role="navigation"><ul><li><a href="/g">index</a></li><li><a href="/n">next</a></li></ul></div><div '
    'class="document"><div class="body" role="main"><section><h1>⟦The module⟧<a class="headerlink" href="#x">¶</a></h1><p>⟦{a}⟧</p><dl '
    'class="py function"><dt class="sig"><span>⟦mod.area(r)⟧</span><a class="headerlink" href="#y">¶</a></dt><dd><p>⟦{b}⟧</p><dl class='
    '"field-list"><dt>⟦Parameters⟧</dt><dd><ul class="simple"><li><p><strong>⟦r⟧</strong>⟦ – the radius⟧</p></li></ul></dd></dl></dd></dl>'
    '<div class="admonition note"><p class="admonition-title">⟦Note⟧</p><p>⟦{c}⟧</p></div></section></div></div><div class='
    '"sphinxsidebar" role="navigation"><h3>This page</h3><ul><li><a href="/s">Show source</a></li></ul></div><div class="footer">© '
    "Copyright 2026, the authors.</div>",
    "Javadoc": '<div class="top-nav"><ul class="nav-list"><li><a href="/o">Overview</a></li><li><a href="/t">Tree</a></li></ul></div><main '
    'role="main"><div class="header"><h1>⟦Class Ferry⟧</h1></div><section class="class-description"><div class="block">⟦{a}⟧</div></section>'
    '<ul class="details-list"><li><section><h2>⟦Method Details⟧</h2><ul class="member-list"><li><section class="detail"><h3>⟦depart⟧</h3>'
    '<div class="member-signature">⟦public int depart(int hour)⟧</div><div class="block">⟦{b}⟧</div></section></li></ul></section></li></ul>'
    "</main>",
    "MkDocs": '<header class="md-header"><label class="md-header__button" for="__drawer">Menu</label></header><div class="md-sidebar"><nav '
    'class="md-nav"><ul><li><a href="/a">Start</a></li></ul></nav></div><div class="md-content"><article class="md-content__inner"><h1>⟦Set '
    'up⟧</h1><p>⟦{a}⟧</p><details><summary>⟦Why two steps?⟧</summary><p>⟦{b}⟧</p></details><div class="highlight"><pre><code>⟦pip install '
    'ferry⟧</code></pre><button class="md-clipboard">Copy</button></div><p>⟦{c}⟧</p></article></div>',
    "Docusaurus": '<nav class="navbar"><a href="/">Docs</a></nav><aside class="theme-doc-sidebar-container"><ul class="menu__list"><li><a '
    'href="/i">Introduction</a></li></ul></aside><main><article><div class="theme-doc-markdown markdown"><h1>⟦Install⟧</h1><p>⟦{a}⟧</p><table>'
    "<tr><th>⟦Option⟧</th><th>⟦Default⟧</th></tr><tr><td>⟦speed⟧</td><td>⟦fast⟧</td></tr></table><p>⟦{b}⟧</p></div></article><nav class="
    '"pagination-nav"><a href="/n">Next: Use</a></nav></main>' + FOOTER,
    "glossary": NAV
    + "<main><h1>⟦Glossary⟧</h1><dl><dt>⟦Keel⟧</dt><dd>⟦{a}⟧</dd><dt>⟦Mast⟧</dt><dd>⟦{b}⟧</dd></dl></main>"
    + FOOTER,
    "ASP.NET form": '<form id="aspnetForm" method="post"><input type="hidden" value="abc"><div id="header"><ul class="menu"><li><a href="/1">'
    'Start</a></li><li><a href="/2">Services</a></li></ul></div><div id="main"><h1>⟦Notice⟧</h1><p>⟦{a}⟧</p><p>⟦{b}⟧</p></div><div id="footer"'
    "><span>Town hall, Main Street 1</span></div></form>",
    "news with time and captions": '<div class="topbar"><a href="/login">Log in</a></div>'
    + NAV
    + '<main><article><header><h1>⟦The emperor⟧</h1><p class="lead">⟦{c}⟧</p></header><div class="byline">By Ann Writer</div><p>⟦On ⟧<time>⟦5 '
    "May 1821⟧</time>⟦ the emperor died on the island.⟧</p><figure><img alt='A wall' src='a.png'><figcaption>⟦The harbour wall after the "
    'storm⟧</figcaption></figure><p>⟦{a}⟧</p><aside class="related"><h3>Read more</h3><ul><li><a href="/x">Storms of the year</a></li></ul>'
    '</aside><p>⟦{b}⟧</p><div class="share-buttons"><a href="/f">Share</a><a href="/t">Tweet</a></div></article></main>'
    + FOOTER,
    "manual with buttons": NAV
    + "<main><h1>⟦Export⟧</h1><p>⟦Press ⟧<button>⟦Save⟧</button>⟦ and then choose ⟧<label>⟦Export as PDF⟧</label>⟦ in the menu.⟧</p><p>⟦{a}⟧</p>"
    '<p>⟦{b}⟧</p></main><div class="cookie-banner"><p>We use cookies to improve your experience.</p><button>Accept</button></div>',
    "newsletter in tables": '<table role="presentation" width="100%"><tr><td><table role="presentation"><tr><td><h1>⟦News of March⟧</h1><p>⟦{a}'
    "⟧</p></td></tr><tr><td><p>⟦{b}⟧</p></td></tr></table></td></tr></table>" + FOOTER,
    "table layout": '<table><tr><td width="150"><a href="/1">Home</a><br><a href="/2">Ships</a><br><a href="/3">Guest book</a></td><td><h1>⟦My '
    "ships⟧</h1>⟦{a}⟧<br><br>⟦{b}⟧</td></tr></table>",
    "Drupal": '<div class="region region-header"><div id="block-menu" class="block block-menu"><ul class="menu"><li><a href="/">Home</a></li></ul>'
    '</div></div><div class="region-content"><h1 class="page-header">⟦Projects⟧</h1><div class="node node-page"><div class="field-name-body">'
    '<p>⟦{a}⟧</p><blockquote>⟦{c}⟧</blockquote><p>⟦{b}⟧</p></div></div></div><div class="region-footer"><p class="copyright">Copyright 2020'
    "</p></div>",
    "several stories": NAV
    + "<article><h2>⟦Story one⟧</h2><p>⟦{a}⟧</p></article><article><h2>⟦Story two⟧</h2><p>⟦{b}⟧</p></article>"
    + SIDE
    + FOOTER,
    "questions in details": NAV
    + "<main><h1>⟦Questions⟧</h1><details><summary>⟦Who pays?⟧</summary><p>⟦{a}⟧</p></details><details><summary>⟦And when?⟧</summary><p>⟦{b}⟧"
    "</p></details><div style='display:none'>Thank you for your feedback</div></main>",
    "pandoc": '<header id="title-block-header"><h1 class="title">⟦Notes on ferries⟧</h1></header><h2 id="a">⟦What to bring⟧</h2><p>⟦{a}⟧</p><ul>'
    "<li>⟦A warm coat⟧</li><li>⟦Bread and cheese⟧</li></ul><p>⟦{b}⟧</p>",
    "KaTeX": "<main><h1>⟦Circles⟧</h1><p>⟦{a}⟧</p><p>⟦The area is ⟧<span class='katex'><span class='katex-mathml'><math><semantics><mrow><mi>π</mi>"
    "</mrow><annotation encoding='application/x-tex'>⟦\\pi r^2⟧</annotation></semantics></math></span><span class='katex-html' aria-hidden="
    "'true'>πr2</span></span>⟦ as known.⟧</p><p>⟦{b}⟧</p></main>" + FOOTER,
    "timetable": NAV
    + "<main><h1>⟦Ferries⟧</h1><table><tr><th>⟦From⟧</th><th>⟦To⟧</th></tr><tr><td><time>⟦07:00⟧</time></td><td><time>⟦08:10⟧</time></td></tr><tr>"
    "<td>⟦17:00⟧</td><td>⟦18:10⟧</td></tr></table><p>⟦{a}⟧</p></main>" + FOOTER,
    "blog without elements": '<div id="header"><div class="logo"><a href="/">Ann writes</a></div></div><div id="wrap"><div class="col"><div class='
    '"entry no-comments"><h2>⟦A walk⟧</h2><p>⟦{a}⟧</p><p>⟦{b}⟧</p></div></div><div class="widget"><h3>Archive</h3><ul><li><a href="/m">May</a>'
    '</li></ul></div></div><div id="footer">Powered by a blog system</div>',
    "shop article": NAV
    + '<div class="breadcrumbs"><a href="/">Shop</a> › <a href="/k">Knives</a></div><div class="content"><h1>⟦Care of knives⟧</h1><p>⟦{a}⟧</p><ul>'
    '<li>⟦Wash by hand⟧</li><li>⟦Dry at once⟧</li></ul><p>⟦{b}⟧</p></div><div class="newsletter"><p>Get our newsletter every week.</p><form>'
    '<input><button>Subscribe</button></form></div><div class="related-products related"><h3>You may also like</h3><ul><li><a href="/1">Whetstone'
    "</a></li></ul></div>" + FOOTER,
}
LANGUAGES = sorted(TEXTS)
MARKED = re.compile("⟦(.*?)⟧", re.DOTALL)
TAGS = re.compile(r"<[^>]*>")
WORDS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W_\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")


def pages() -> list[tuple[str, str, list[str]]]:
    """Name, source and the words of the main text of each page."""
    found = []
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        for turn in range(2):
            language = LANGUAGES[(2 * number + 13 * turn) % len(LANGUAGES)]
            a, b, c = thirds(TEXTS[language])
            body = layout.replace("{a}", a * 2).replace("{b}", b + a).replace("{c}", c)
            words = [word for part in MARKED.findall(body) for word in WORDS.findall(TAGS.sub(" ", part))]
            page = (
                f'<!DOCTYPE html><html lang="{language}"><head><title>{name}</title></head><body>{body}</body></html>'
            )
            found.append((f"{name} ({language})", page.replace("⟦", "").replace("⟧", ""), words))
    return found


def thirds(text: str) -> tuple[str, str, str]:
    """A paragraph in three parts, cut between words where there are blanks."""
    cuts = [text.find(" ", len(text) * part // 3) for part in (1, 2)]
    one, two = (cut if cut > 0 else len(text) * part // 3 for cut, part in zip(cuts, (1, 2), strict=True))
    return text[:one] + " ", text[one:two] + " ", text[two:]
