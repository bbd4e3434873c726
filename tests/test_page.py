"""The page, in a real headless Chromium; skipped where there is none, but never in CI."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import ROOT, SAMPLE, Api, Serve, files, process
from tests.fake_tmdb import FakeTMDB, free_port

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not CHROMIUM and not os.environ.get("CI"), reason="Chromium is not installed: apt install chromium"
    ),
]
FLAGS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
SECTIONS = ["totals", "ratings", "time", "what", "who", "films-section", "watchlist", "matches", "take"]
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360f8cf500f000386018035a9a5770000000049454e44ae426082"
)

RECONNECT = """async () => {
    const { state, watch } = await import("./page/main.js");
    state.stop();
    watch();
}"""
REFRESH = "async () => (await import('./page/main.js')).refresh()"

Browse = Callable[..., Awaitable["Page"]]


async def posters(route: Route) -> None:
    await route.fulfill(body=PIXEL, content_type="image/png")


@pytest.fixture(scope="module")
def chromium_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the one Chromium of these tests can be driven."""
    profile = tmp_path_factory.mktemp("chromium")
    flags = [*FLAGS.split(), "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen([str(CHROMIUM), *flags], stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr
        yield next(line.split()[-1] for line in running.stderr if line.startswith("DevTools listening"))
        running.terminate()


@pytest.fixture
async def browse(chromium_url: str) -> AsyncIterator[Browse]:
    """Opens pages of a service; at the end none may have said an error or asked anybody else."""
    playwright = pytest.importorskip("playwright.async_api", reason="Playwright is not installed")
    said: list[str] = []
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.connect_over_cdp(chromium_url)

        async def start(api: Api, path: str = "/", **options: Any) -> Page:
            context = await chromium.new_context(base_url=str(api.base_url), **options)
            context.set_default_timeout(10_000)
            page: Page = await context.new_page()
            await page.route("https://image.tmdb.org/**", posters)
            page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda asked: said.append(asked.url) if _elsewhere(asked.url, api) else None)
            await page.goto(path)
            return page

        start.said = said  # type: ignore[attr-defined]
        yield start
        await chromium.close()
    assert said == []


def _elsewhere(url: str, api: Api) -> bool:
    return not url.startswith((str(api.base_url), "https://image.tmdb.org/t/p/", "data:"))


def forget_errors(browse: Browse) -> None:
    """Of a service that was made to fail, Chromium itself logs what could not be loaded."""
    browse.said.clear()  # type: ignore[attr-defined]


async def uploaded(page: Page, *given: tuple[str, bytes]) -> None:
    payload: Any = [{"name": name, "mimeType": "text/csv", "buffer": data} for name, data in given]
    await page.set_input_files("#file", payload or SAMPLE)
    await page.wait_for_selector("#totals")


async def ended(page: Page) -> None:
    await page.wait_for_selector("#progress", state="detached")
    await page.wait_for_function("() => !document.body.innerText.includes('still being looked up')")


async def report(browse: Browse, api: Api) -> Page:
    """The page of the sample, once all its films have been looked up."""
    page = await browse(api)
    await uploaded(page)
    await ended(page)
    return page


async def tile(page: Page, name: str) -> str:
    found = page.locator(".tile", has=page.get_by_text(name, exact=True)).locator("dd").first
    return str(await found.inner_text())


# --- From the export to the report


async def test_file_button_uploads_and_shows_every_section(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Choose files").click()
    await (await chooser.value).set_files(SAMPLE)

    await page.wait_for_selector("#progress")
    assert "of 159" in await page.locator("#progress").inner_text()
    await ended(page)

    for section in SECTIONS:
        assert await page.locator(f"#{section}").is_visible(), section
    stats = (await api.get(f"/api/session/{page.url.partition('#')[2]}/stats")).json()
    totals = stats["totals"]
    assert await tile(page, "films") == "133"
    assert await tile(page, "hours") == f"{totals['hours']:g}"
    assert await tile(page, "viewings") == str(totals["viewings"])
    assert await tile(page, "mean rating") == f"★ {totals['mean_rating']:.2f}"
    directors = page.get_by_role("region", name="Directors").first
    assert "Quentin Tarantino" in await directors.locator("li").first.inner_text()
    assert await page.get_by_role("button", name="4.5: ").count() == 1
    assert "7 films to check" in await page.locator("#matches").inner_text()
    assert "not endorsed or certified by TMDB" in await page.locator("footer").inner_text()


async def test_dropped_file_is_uploaded(browse: Browse, api: Api) -> None:
    page = await browse(api)
    data = await page.evaluate_handle(
        """text => { const data = new DataTransfer();
            data.items.add(new File([text], "watched.csv", { type: "text/csv" })); return data; }""",
        files(watched="2024-01-02,Inception,2010,https://boxd.it/1skk")[0][1].decode(),
    )

    await page.dispatch_event(".drop", "dragover", {"dataTransfer": data})
    await page.dispatch_event(".drop", "drop", {"dataTransfer": data})
    await page.wait_for_selector("#totals")
    await ended(page)

    assert await tile(page, "films") == "1"


async def test_unusable_file_shows_the_services_message(browse: Browse, api: Api) -> None:
    page = await browse(api)

    payload: Any = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}
    await page.set_input_files("#file", payload)

    alert = page.get_by_role("alert")
    await alert.wait_for()
    assert "notes.txt: the header 'hello'" in await alert.inner_text()
    forget_errors(browse)


async def test_reload_and_second_tab_resume_the_session(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api)
    await uploaded(page)
    await page.wait_for_selector("#progress")

    await page.reload()
    await page.wait_for_selector("#progress")
    second = await browse(api, page.url.removeprefix(str(api.base_url)))
    await asyncio.gather(ended(page), ended(second))

    assert await tile(page, "films") == await tile(second, "films") == "133"


async def test_polls_if_events_fail(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.05
    page = await browse(api)
    await page.route("**/events", lambda route: route.abort())

    await uploaded(page)
    await ended(page)

    assert "131 of 133 films found on TMDB" in await page.locator("#totals").inner_text()
    forget_errors(browse)


async def test_page_without_a_key_says_so_and_shows_the_export(browse: Browse, serve: Serve) -> None:
    page = await browse(await serve(tmdb_api_key=""))
    await page.get_by_text("No TMDB key is set").wait_for()

    await uploaded(page)

    await page.get_by_role("status").get_by_text("No TMDB_API_KEY is set").wait_for()
    assert "This needs data from TMDB" in await page.locator("#who").inner_text()
    assert await tile(page, "films") == "133"
    assert await tile(page, "rated") != ""


async def test_page_reports_an_outage_until_the_service_is_back(browse: Browse, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds, port = 0.5, free_port()
    service = await process(port, tmdb)
    async with Api(base_url=f"http://127.0.0.1:{port}") as api:
        page = await browse(api)
        await uploaded(page)
        await page.wait_for_selector("#progress")

        service.kill()
        await service.communicate()
        await page.get_by_text("The service is not responding. Trying again…").wait_for()
        service = await process(port, tmdb)
        await page.get_by_text("There is no such session").wait_for()

        assert await page.get_by_text("Drop your Letterboxd export here").is_visible()
        service.terminate()
        await service.communicate()
    forget_errors(browse)


async def test_broken_connection_is_reopened(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    tmdb.latency_seconds = 0.1
    page = await browse(api)
    await uploaded(page)
    await page.wait_for_selector("#progress")

    await page.context.set_offline(True)
    await page.evaluate(RECONNECT)  # an open stream does not notice
    await page.get_by_text("The service is not responding. Trying again…").wait_for()
    await page.context.set_offline(False)
    await ended(page)

    assert await page.get_by_text("The service is not responding").count() == 0
    forget_errors(browse)


async def test_expired_session_returns_to_the_start(browse: Browse, api: Api) -> None:
    page = await browse(api, "/#Wm9XbK3vS4mZ0uH2aQ7c1w")

    await page.get_by_text("There is no such session").wait_for()

    assert await page.get_by_text("Drop your Letterboxd export here").is_visible()
    assert "#" not in page.url
    forget_errors(browse)


# --- The report


async def test_year_in_review(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    await page.get_by_role("button", name="2024", exact=True).click()
    await page.get_by_role("heading", name="2024 in review").wait_for()

    stats = (await api.get(f"/api/session/{page.url.partition('#')[2]}/stats?year=2024")).json()
    assert await tile(page, "viewings") == str(stats["totals"]["viewings"])
    assert await page.locator(".calendar svg").count() == 1


async def test_tabs_and_show_all(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    cast = page.get_by_role("region", name="Cast").first

    await cast.get_by_role("button", name="Show 100 of").click()
    await cast.locator("li").nth(50).wait_for()
    await cast.get_by_role("button", name="Highest rated").click()

    ratings = [float(text.partition("★ ")[2].strip()) for text in await cast.locator("li").all_inner_texts()]
    assert ratings == sorted(ratings, reverse=True)
    assert await cast.get_by_role("button", name="Highest rated").get_attribute("aria-pressed") == "true"


async def test_click_on_a_bar_shows_the_films_behind_it(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    await page.get_by_role("button", name="Quentin Tarantino").first.click()

    dialog = page.get_by_role("dialog")
    await dialog.get_by_text("Reservoir Dogs").wait_for()
    assert await dialog.locator("li").count() == 6
    assert await dialog.get_by_role("link", name="TMDB: Reservoir Dogs").get_attribute("href") == (
        "https://www.themoviedb.org/movie/500"
    )


async def test_chart_values_are_reachable_by_keyboard(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    chart = page.locator("[data-chart]").first

    await chart.locator("button").first.focus()
    await page.keyboard.press("ArrowRight")
    assert (await page.locator("#tip").inner_text()).startswith("1: ")
    for _ in range(6):
        await page.keyboard.press("ArrowRight")
    assert (await page.locator("#tip").inner_text()).startswith("4: ")
    await page.keyboard.press("Enter")
    await page.get_by_role("dialog").locator("li").first.wait_for()
    await page.keyboard.press("Escape")

    assert await page.get_by_role("dialog").count() == 0


async def test_match_is_corrected_by_candidate_or_link(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    matches = page.locator("#matches")

    await matches.get_by_text("The Visit", exact=True).click()
    await matches.get_by_role("button", name="Choose The Visit (2015)").nth(1).click()
    await matches.get_by_text("6 films to check").wait_for()
    await matches.get_by_text("Our Summer on Super 8").click()
    link = matches.get_by_label("TMDB link for Our Summer on Super 8")
    await link.fill("https://letterboxd.com/film/inception/")
    await link.press("Enter")
    await matches.get_by_text("give tmdb_id and tmdb_type (movie or tv)").wait_for()
    await link.fill("https://www.themoviedb.org/movie/27205")
    await link.press("Enter")
    await matches.get_by_text("5 films to check").wait_for()

    corrected = (await api.get(f"/api/session/{page.url.partition('#')[2]}/movies?match=corrected")).json()
    assert {movie["title"]: movie["tmdb_id"] for movie in corrected} == {
        "The Visit": 459990,
        "Our Summer on Super 8": 27205,
    }
    forget_errors(browse)


async def test_typed_text_survives_a_redraw(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    await page.locator("#matches").get_by_text("Our Summer on Super 8").click()
    link = page.get_by_label("TMDB link for Our Summer on Super 8")
    await link.fill("https://www.themovie")

    await page.evaluate(REFRESH)
    await page.keyboard.type("db.org/movie/27205")

    assert await link.input_value() == "https://www.themoviedb.org/movie/27205"


async def test_late_response_does_not_replace_a_newer_one(browse: Browse, api: Api) -> None:
    page = await report(browse, api)
    late = asyncio.Event()

    async def hold_all_time(route: Route) -> None:
        if "year=" not in route.request.url:
            await late.wait()
        await route.continue_()

    await page.route("**/stats?*", hold_all_time)
    pending = asyncio.create_task(page.evaluate(REFRESH))
    await page.get_by_role("button", name="2024", exact=True).click()
    await page.get_by_role("heading", name="2024 in review").wait_for()
    late.set()
    await pending

    assert await page.get_by_role("heading", name="2024 in review").is_visible()


async def test_missing_films_are_looked_up_again(browse: Browse, api: Api, tmdb: FakeTMDB) -> None:
    page = await report(browse, api)
    tmdb.latency_seconds = 0.1

    await page.get_by_role("button", name="Look up missing films again").click()
    await page.wait_for_selector("#progress")
    await ended(page)

    assert "7 films to check" in await page.locator("#matches").inner_text()


async def test_session_can_be_deleted(browse: Browse, api: Api) -> None:
    page = await browse(api)
    await uploaded(page)
    session = page.url.partition("#")[2]

    await page.get_by_role("button", name="Delete this session").click()
    await page.get_by_text("Session deleted.").wait_for()

    assert (await api.get(f"/api/session/{session}")).status_code == 404


async def test_downloads_are_files(browse: Browse, api: Api) -> None:
    page = await report(browse, api)

    async with page.expect_download() as started:
        await page.get_by_role("link", name="movies.csv").click()

    assert (await started.value).suggested_filename == "movies.csv"


# --- For everybody, and against attacks


async def test_markup_stays_text_and_only_letterboxd_is_linked(browse: Browse, api: Api) -> None:
    title = "<img src=x onerror=alert(1)>"
    page = await browse(api)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))

    await uploaded(
        page,
        *files(
            watched=f"2024-01-02,{title},2010,javascript:alert(2)",
            diary=f"2024-01-02,{title},2010,,5,,<b>tag</b>,2024-01-02",
        ),
    )
    await ended(page)
    await page.get_by_role("button", name="5: 1 film").click()

    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("strong").get_by_text(title).wait_for()
    assert await page.locator("img[src=x]").count() == 0
    assert await dialog.get_by_role("link").count() == 0
    assert title in await page.locator("#matches").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_violations(scheme: str, browse: Browse, api: Api) -> None:
    axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe is not installed").Axe()
    page = await browse(api, color_scheme=scheme)

    start = await axe.run(page)
    await uploaded(page)
    await ended(page)
    await page.locator("#matches summary").first.click()
    await page.get_by_role("button", name="Use this link").wait_for()
    report = await axe.run(page)
    await page.get_by_role("button", name="Quentin Tarantino").first.click()
    await page.get_by_role("dialog").locator("li").first.wait_for()
    dialog = await axe.run(page)

    for found in (start, report, dialog):
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [360, 1280, 3840])
async def test_nothing_overflows_at_any_width(width: int, browse: Browse, api: Api) -> None:
    page = await browse(api, viewport={"width": width, "height": 900})
    await uploaded(page)
    await ended(page)

    assert await page.evaluate("document.documentElement.scrollWidth") <= width


async def test_posters_do_not_shift_the_layout(browse: Browse, api: Api) -> None:
    page = await browse(api)
    arrive = asyncio.Event()

    async def later(route: Route) -> None:
        await arrive.wait()
        await posters(route)

    await page.route("https://image.tmdb.org/**", later)
    await uploaded(page)
    await ended(page)
    before = await page.evaluate("document.documentElement.scrollHeight")
    arrive.set()
    await page.wait_for_function("() => [...document.images].some(image => image.naturalWidth)")

    assert await page.evaluate("document.documentElement.scrollHeight") == before


def test_page_is_small_and_makes_no_markup_from_data() -> None:
    parts = {path.name: path.read_text("utf-8") for path in (ROOT / "page").iterdir()}

    assert sum(len(text.encode()) for text in parts.values()) < 150_000
    for name, text in parts.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", text), name
        assert not re.search(r"\sstyle=|<style|\son\w+=\"", text), name  # the policy forbids them
