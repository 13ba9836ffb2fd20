"""The core of a page: without cards of other pages and boxes beside it, with the posts and answers that belong."""

import pytest

from rewarm.stages.ingest.html.extract import read_page

SENTENCE = "The harbour was rebuilt after the storm, and the fishing boats returned in spring with the good weather. "
ARTICLE = f"<h1>The harbour</h1><div class=text><p>{SENTENCE}</p><p>{SENTENCE * 3}</p><p>{SENTENCE * 2}</p></div>"
LEAD = "A council far away has voted to close a road for the summer, which the shops do not like at all."


def card(number: int, tag: str = "li") -> str:
    return (
        f"<{tag}><div class=c><h3><a href=/story/{number}>Another story of that day, number {number}</a></h3>"
        f"<span>By a writer</span><p>{LEAD}</p></div></{tag}>"
    )


def text_of(body: str) -> str:
    return read_page(f"<html><head><title>T</title></head><body>{body}</body></html>").text


CARDS = "".join(map(card, range(6)))
LINKED = "".join(f"<div><a href=/v/{n}><h4>A video of number {n} of them</h4><p>{LEAD}</p></a></div>" for n in range(5))
HOURS = "<li>Open on Monday</li><li>Closed on Tuesday</li><li>Open on Wednesday</li>"
TOPICS = "".join(f"<li><a href=/t/{n}>Topic {n}</a></li>" for n in range(5))
STAFF = f"<div class=x1><div>Our staff</div><div>Editor of the paper</div><div>A. Writer</div><p>{SENTENCE}</p></div>"


@pytest.mark.parametrize(
    ("page", "missing"),
    [
        (f"<div id=a>{ARTICLE}</div><div id=b><h2>More of it</h2><ul>{CARDS}</ul></div>", "number 3"),
        (f"<article>{ARTICLE}<div id=b><ul>{CARDS}</ul></div></article>", "number 3"),
        (f"<main><div id=a>{ARTICLE}</div>{LINKED}</main>", "A video"),
        (f"<div id=a>{ARTICLE * 3}</div><div id=z>{STAFF}</div>", "Editor"),
        (f"<main><div>Sign in here</div><div>Today, 14:53</div>{ARTICLE}</main>", "14:53"),
        (f"<div id=a>{ARTICLE}</div><div id=b><ul>{HOURS}</ul></div>", "Monday"),
        (f"<main>{ARTICLE}<div id=b><ul>{TOPICS}</ul></div></main>", "Topic 2"),
        (f"<div id=a>{ARTICLE}</div><div><p>We use cookies here. {SENTENCE} Accept all.</p></div>", "cookies"),
    ],
)
def test_what_surrounds_an_article_is_left_out(page: str, missing: str) -> None:
    text = text_of(page)
    assert text.startswith("The harbour\n") and SENTENCE.strip() in text
    assert missing not in text


POST = "<div class=post><p>{}</p></div>"
LONG = SENTENCE * 12
TOOLS = "".join(f"<li><a href=/{n}>Tool {n} of them all</a> and what it does for us here.</li>" for n in range(9))
SHORT = "No, they returned in the autumn already, as the harbour master wrote at the time."
PARTS = "".join(f"<li>{n} g of flour</li>" for n in range(100, 160, 10))
RECIPE = f"<h1>Fish soup</h1><div class=needs><h2>Ingredients</h2><ul>{PARTS}</ul></div>"
SIZES = "".join(f"<tr><th>Depth {n}</th><td>{n} m</td></tr>" for n in range(4))


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        (f"<div class=thread>{POST.format(LONG)}{POST.format(SHORT)}</div>", [SHORT]),
        (f"<div class=question><p>{LONG}</p></div><div class=answer><p>{SHORT}</p></div>", [SHORT]),
        (f"<div><h1>Title</h1><p class=lead>{SHORT}</p></div><div class=t><p>{LONG}</p></div>", ["Title", SHORT]),
        (f"<div class=news><ul>{CARDS}</ul></div>", ["number 0", "number 5", LEAD]),
        (f"<p>{SENTENCE}</p><ul>{CARDS}</ul>", ["number 0", "number 5"]),
        (f"<div id=a>{ARTICLE}{card(1, 'div')}{card(2, 'div')}</div><p>{SENTENCE * 2}</p>", ["number 1", "number 2"]),
        (
            f"<div id=a>{ARTICLE}<h2>References</h2><ol>{CARDS}</ol></div>",
            ["number 0", "number 5"],
        ),
        (
            f"<div id=a>{ARTICLE}<ul>{TOOLS}</ul></div>",
            ["Tool 0", "Tool 8"],
        ),
        (
            "<h1>Functions</h1><table>"
            + "".join(f"<tr><td><a href=/f{n}>function_{n}_of_it</a></td><td>{SHORT}</td></tr>" for n in range(9))
            + f"</table><p>{LONG}</p>",
            ["function_0_of_it", "function_8_of_it"],
        ),
        (f"<div>{RECIPE}<div class=way><p>{LONG}</p></div></div>", ["Ingredients", "100 g of flour", "150 g of flour"]),
        (
            f"<article><div><h1>Fish soup</h1><p>{LONG}</p></div><div><div><ul>{PARTS}</ul></div></div></article>",
            ["100 g of flour", "150 g of flour"],
        ),
        (f"<main><div><p>{LONG}</p></div><div class=data><table>{SIZES}</table></div></main>", ["Depth 0", "3 m"]),
    ],
)
def test_what_belongs_to_the_text_stays(page: str, kept: list[str]) -> None:
    text = text_of(page)
    assert [part for part in kept if part not in text] == []


def test_short_lines_of_sections_beside_a_long_one_stay() -> None:
    long = "<p>The ferry leaves the island at seven in the morning and comes back after the market closes.</p>" * 40
    page = f"""<main><div><h1>Guide</h1><p>There are three kinds of boats, and all stay in the harbour at night:</p>
    <ul><li>Ferry</li><li>Skiff</li></ul><section><h2>Setup</h2>
    <p>Ask the harbour master for a berth before you come, or write to the office on the quay at any time.</p>
    <ol><li>Moor</li></ol></section><section><h2>Trips</h2>{long}</section></div>
    <section><ul><li><a href="/other">Other guides</a></li></ul></section></main>"""
    text = read_page(page).text
    assert all(part in text for part in ("• Ferry\n", "• Skiff\n", "Setup\n", "1. Moor\n", "Trips\n"))
    assert "Other guides" not in text


def test_features_with_a_link_to_more_are_no_cards_that_announce_other_pages() -> None:
    prose = "It shows the tides of the coming week at the pier, and the wind that the harbour master expects."
    features = "".join(
        f"<li><h2>{name}</h2><p>{name}: {prose}</p><p><a href=/{name}>Learn more about {name}</a></p></li>"
        for name in ("Tables", "Charts", "Alarms", "Logs")
    )
    own = f"<p>The harbour's program is for all who sail. {prose}</p><p>It is free, and runs on every boat. {prose}</p>"
    teasers = "".join(
        f"<li><h3><a href=/{n}>Another story {n}</a></h3><p>Teaser {n}: {prose}</p></li>" for n in range(4)
    )
    text = read_page(f"<body><h1>Program</h1>{own}<ul>{features}</ul><div><ul>{teasers}</ul></div></body>").text
    assert all(f"{name}: It shows" in text for name in ("Tables", "Charts", "Alarms", "Logs"))
    assert "Teaser" not in text
