// Which view to show when: the start, or the report of the session in the address.
import { SAMPLE, call, ended, follow, isTransient, sessionUrl, statsUrl, upload } from "./api.js";
import { tablesOf } from "./charts.js";
import { $, h, notice, painted, redraw, update } from "./dom.js";
import { closed, showFilms } from "./films.js";
import { dropped, plain } from "./intake.js";
import { doubtful, matchesView, nothingAsked } from "./matches.js";
import { RANKINGS, SECTIONS } from "./report.js";
import { preview } from "./preview.js";
import { shareCard } from "./share.js";
import { address, go, sets } from "./state.js";
import { moment, number, plural } from "./words.js";

const main = $("main");
/** The session that is shown, or null: its progress, statistics, doubtful matches and what has been unfolded. */
export let app = null;
const tabs = new BroadcastChannel("letterboxd");

// --- The start

async function start(message, bad) {
  app?.stop();
  app = null;
  sets.clear();
  document.title = "Your life in film";
  $("actions").replaceChildren();
  $("progress").hidden = true;
  $("skip").hidden = true;
  document.body.classList.remove("has-report");
  say(message, bad);
  const input = fileInput("Letterboxd export");
  const said = h("div"),
    link = (to, text) => h("a", { href: to, target: "_blank", rel: "noreferrer" }, text);
  main.replaceChildren(
    h(
      "div.start",
      null,
      h(
        "div.pitch",
        null,
        h("h1", null, "Your Letterboxd diary as a report"),
        h("p.lead", null, "Posters, people, countries, years: yours to read and to share."),
      ),
      h("a.preview", { href: `#${SAMPLE}` }, preview(), h("span.button", null, "See a sample report")),
      h(
        "div.drop",
        null,
        h("p.lead", null, "Drop your export here"),
        h("p.soft", null, "the ZIP, its unpacked folder, or any of its CSVs"),
        h("button.main", { onclick: () => input.click() }, "Choose files"),
        input,
        said,
      ),
      h(
        "div",
        null,
        h("h2", null, "Where to find it"),
        h(
          "p",
          null,
          link("https://letterboxd.com/data/export/", "Download your export from Letterboxd"),
          ", signed in, in a browser: the mobile app cannot export. The link is also under Settings → Data → ",
          h("em", null, "Export your data"),
          ". You get a ZIP of CSV files.",
        ),
      ),
      h(
        "div",
        null,
        h("h2", null, "What happens to your data"),
        h(
          "p",
          null,
          "TMDB receives your films’ titles and years, any ids in your upload or corrections, and this service’s key. Nothing else leaves the machine that runs the service. Your session is deleted an hour after the lookups finish (later if whoever runs the service wants it so), or whenever you choose. TMDB’s answers and your corrections stay with the service.",
        ),
      ),
    ),
  );
  const health = await call("health").catch(() => null);
  if (health?.tmdb_key === "missing")
    said.append(notice("No TMDB key is set, so films cannot be looked up. You can still see your ratings and diary."));
  if (health?.tmdb_key === "rejected")
    said.append(notice("TMDB rejects this service’s key, so films cannot be looked up.", true));
}

function fileInput(label, id) {
  const input = h("input.visually-hidden", {
    type: "file",
    id: "file",
    multiple: true,
    accept: ".zip,.csv",
    tabindex: -1,
    "aria-label": label,
    onchange: () => {
      send(plain(input.files), id);
    },
  });
  return input;
}

let sending = false;

/** Into a session of their own, or as a newer export into the session with that id. */
async function send(files, id) {
  if (!files.length || sending) return;
  sending = true;
  say("Reading your export…");
  try {
    const session = await upload(files, id);
    if (!id) history.pushState({ inside: true }, "", `${location.pathname}#${session.session_id}`);
    await open(session.session_id);
    if (id) say(`${plural(session.new_count, "new film")}, ${number(session.changed_count)} changed, ${number(session.gone_count)} gone.`);
    main.focus({ preventScroll: true });
  } catch (error) {
    say(error.message, true);
  } finally {
    sending = false;
    if ($("file")) $("file").value = "";
  }
}

// --- The session

async function open(id) {
  app?.stop();
  sets.clear();
  app = {
    id,
    session: null,
    stats: null,
    long: null,
    doubtful: null,
    all: {},
    tab: null,
    isSample: id === SAMPLE,
    layout: null,
    turn: 0,
    drawing: 0,
    loaded: 0,
    stop() {},
  };
  const mine = app;
  say("");
  try {
    [mine.session, mine.stats] = await Promise.all([call(sessionUrl(id)), call(statsUrl(id, address().year))]);
  } catch (error) {
    if (mine !== app) return;
    if (!isTransient(error)) history.replaceState(null, "", location.pathname);
    return start(isTransient(error) ? `${error.message} Reload this page when it is back.` : error.message, true);
  }
  if (mine !== app) return;
  mine.warnings = mine.session.warnings;
  const newer = fileInput("A newer export", id);
  $("actions").replaceChildren(
    newer,
    h("button", { onclick: () => newer.click() }, "Newer export"),
    h(
      "button",
      {
        onclick: () => {
          history.pushState({ inside: true }, "", location.pathname);
          start();
        },
      },
      "New upload",
    ),
  );
  $("skip").hidden = false;
  document.body.classList.add("has-report");
  main.setAttribute("aria-busy", "true");
  watch();
  const turn = mine.turn;
  await draw();
  if (mine === app) await showFilms(id, moreFilms);
  if (mine === app) await readMatches();
  if (mine === app && turn === mine.turn) main.removeAttribute("aria-busy");
}

export function watch() {
  const mine = app;
  mine.stop();
  progress();
  if (ended(mine.session)) return;
  mine.loaded = performance.now();
  mine.stop = follow(
    mine.id,
    session => {
      if (mine !== app) return;
      mine.session = session;
      say("");
      progress();
      if (ended(session) || performance.now() - mine.loaded > 2000) refresh();
    },
    error => {
      if (mine !== app) return;
      if (error.status === 404) return gone(error.message);
      say(`${error.message} Trying again…`, true);
    },
  );
}

function gone(message) {
  $("films").close();
  $("share").close();
  history.replaceState(null, "", location.pathname);
  return start(message, true);
}

/** Loads the current statistics and matches. If two refreshes overlap, the later one wins. */
export async function refresh() {
  const mine = app,
    turn = ++mine.turn,
    year = address().year,
    isLong = Object.values(mine.all).some(Boolean);
  mine.loaded = performance.now();
  main.setAttribute("aria-busy", "true");
  const isCurrent = () => mine === app && turn === mine.turn;
  try {
    const [stats, long] = await Promise.all([call(statsUrl(mine.id, year)), isLong ? call(statsUrl(mine.id, year, 100)) : null]);
    if (!isCurrent()) return;
    Object.assign(mine, { stats, long });
    await draw();
    if (isCurrent()) await readMatches();
  } catch (error) {
    if (!isCurrent()) return;
    if (error.status === 404) return gone(error.message);
    if (mine.stats.year !== year) go({ year: mine.stats.year }, true);
    say(error.message, true);
  } finally {
    if (turn === app?.turn) main.removeAttribute("aria-busy");
  }
}

/** Not while a year is shown, which has no matches, nor if nothing was looked up. */
async function readMatches() {
  const mine = app,
    session = mine.session;
  if (mine.isSample) return;
  if (mine.stats.year !== null || nothingAsked(session)) return mine.matches?.draw();
  const films = await doubtful(mine.id);
  if (mine !== app) return;
  mine.doubtful = films;
  mine.matches?.draw();
}

// --- Drawing

/** Draws what has changed, the top of the page first. The browser paints in between, so that it is never busy for long. */
async function draw() {
  const mine = app,
    turn = ++mine.drawing,
    stats = mine.stats,
    isNew = mine.layout?.year !== stats.year;
  if (isNew) build();
  document.title =
    stats.year === null
      ? `${plural(stats.films, "film")} – your life in film`
      : `${stats.year} in film – ${plural(stats.films, "film")}`;
  let began = performance.now();
  const isOursAfterPaint = async () => {
    await painted();
    began = performance.now();
    return mine === app && turn === mine.drawing;
  };
  for (const { section, element, heading, hosts, tables } of mine.layout.sections) {
    for (const [part, host] of hosts) {
      update(host, section.onlyEver && stats.year !== null ? null : part.data(stats, mine), part.draw);
      if (performance.now() - began > 8 && !(await isOursAfterPaint())) return;
    }
    element.hidden = hosts.every(([, host]) => host.hidden);
    element.querySelector(".flow")?.setAttribute("data-count", hosts.filter(([part, host]) => !part.kind && !host.hidden).length);
    if (heading && !element.hidden) heading.textContent = section.title(stats);
    tables.update();
    if (isNew && !element.hidden && !(await isOursAfterPaint())) return;
  }
  tools();
  if (app.matches) app.matches.view.hidden = app.layout.take.hidden = false;
}

function build() {
  const { stats } = app,
    isEver = stats.year === null;
  sets.clear();
  const sections = SECTIONS.map(section => {
    const hosts = section.parts.map(part => [part, h(`div.part.as-${part.kind || "flow"}.of-${part.of || "watched"}`, { hidden: true })]);
    const of = kind => hosts.filter(([part]) => (part.kind || "flow").split(".")[0] === kind).map(([, host]) => host);
    const heading = section.title && h("h2", { id: `${section.id}-title` });
    const flow = of("flow"),
      strips = of("strip");
    const element = h(
      "section",
      { id: section.id, "aria-labelledby": `${section.id}-title`, hidden: true },
      heading,
      of("wide"),
      flow.length > 0 && h("div.flow", null, flow),
      strips.length > 0 && h("div.strips", null, strips),
    );
    const tables = tablesOf(element);
    element.append(tables.view);
    return { section, element, heading, hosts, tables };
  });
  const isWhole = isEver && !app.isSample;
  app.matches = isWhole ? matchesView(app, changed, retry) : null;
  app.layout = { year: stats.year, sections, bar: bar(stats) };
  app.layout.take = isWhole && take();
  if (isWhole) app.matches.view.hidden = app.layout.take.hidden = true; // they would be pushed down
  if (main.firstChild) scrollTo({ top: 0, behavior: "instant" });
  const [hero, ...rest] = sections.map(each => each.element);
  main.replaceChildren(
    ...[
      hero,
      app.layout.bar,
      h("div.notices", null, app.isSample && sampleNotice(), h("div.problem"), warningsView(app.warnings)),
      rest,
      app.matches?.view,
      app.layout.take,
    ]
      .flat()
      .filter(Boolean),
  );
  app.matches?.draw();
  problem();
}

const sampleNotice = () =>
  h("p.notice", null, "This is a sample: the report of an export that nobody lived. ", h("a", { href: "." }, "Make your own"));

function problem() {
  const { error_message, status } = app.session,
    host = main.querySelector(".problem");
  if (host) update(host, ended(app.session) && error_message, text => text && notice(text, status === "failed"));
}

function warningsView(warnings) {
  return warnings?.length
    ? h(
        "details.notice",
        null,
        h("summary", null, `${plural(warnings.length, "problem")} reading the export`),
        h(
          "ul",
          null,
          warnings.map(text => h("li", { dir: "auto" }, text)),
        ),
      )
    : null;
}

/** The sticky line: the sections, the order of the rankings, the card. */
const bar = stats =>
  h(
    "div.sticky",
    null,
    h("nav", { "aria-label": "Contents" }),
    h("div.order", { hidden: true }),
    stats.films > 0 && h("button.main", { onclick: () => shareCard(app.stats) }, "Share"),
  );

function tools() {
  const { sections, bar } = app.layout,
    links = sections
      .filter(({ section, element }) => section.short && !element.hidden)
      .map(({ section }) => [section.id, section.short]);
  if (app.matches) links.push(["matches", "Matches"], ["take", "Download"]);
  update(bar.querySelector("nav"), links, all => all.map(([id, text]) => h("button.link", { "data-to": id }, text)));
  const hasRatings = sections.some(({ hosts }) => hosts.some(([part, host]) => RANKINGS.includes(part) && !host.hidden)),
    order = (byRating, text, isOn) =>
      h(
        "button",
        { "aria-pressed": String(byRating === isOn), "data-key": text, onclick: () => go({ byRating }, true) },
        text,
      );
  redraw(
    bar.querySelector(".order"),
    hasRatings && app.stats.totals.rated > 0 ? { isOn: address().byRating } : null,
    ({ isOn }) =>
      h(
        "div.tabs",
        { role: "group", "aria-label": "Order of all rankings" },
        order(false, "By films", isOn),
        order(true, "By rating", isOn),
      ),
  );
}

function take() {
  const link = (path, name, what) =>
      h("p", null, h("a.button", { href: sessionUrl(app.id, path), download: "" }, name), " ", h("span.soft", null, what)),
    at = h("p");
  const ask = () => {
    at.replaceChildren(
      h("span", null, "Delete this session and all its films? "),
      h("button.bad", { onclick: forget }, "Yes, delete it"),
      " ",
      h("button", { onclick: offer }, "Keep it"),
    );
    at.querySelector("button").focus();
  };
  const offer = () =>
    at.replaceChildren(
      h("button", { onclick: ask }, "Delete this session"),
      " ",
      h("span.soft", null, `otherwise it is deleted after ${moment(app.session.expires_at)}`),
    );
  offer();
  return h(
    "section.take",
    { id: "take", "aria-labelledby": "take-title" },
    h("h2", { id: "take-title" }, "Download"),
    link("/movies.csv", "movies.csv", "every film with its TMDB data, for a spreadsheet"),
    link("/letterboxd.csv", "letterboxd.csv", "to import into Letterboxd or upload here again"),
    link("/letterboxd.csv?list=watchlist", "watchlist", "the same for your watchlist"),
    link("/matches.csv", "matches.csv", "how each film was matched, and why"),
    at,
  );
}

/** One line at the bottom, so that nothing moves when it comes or goes. */
function progress() {
  const s = app.session,
    line = $("progress"),
    done = ended(s),
    was = line.hidden;
  line.hidden = done;
  problem();
  if (done) {
    if (!was) $("heard").textContent = s.error_message || "All films have been looked up.";
    return;
  }
  if (!line.firstChild) line.append(h("progress", { "aria-label": "Films looked up" }), h("p"));
  const left =
    s.eta_seconds === null
      ? ""
      : `, about ${s.eta_seconds < 90 ? `${s.eta_seconds} s` : `${Math.round(s.eta_seconds / 60)} min`} left`;
  line.firstChild.max = s.total_movies;
  line.firstChild.value = s.processed_count;
  line.lastChild.textContent = s.waiting_for
    ? `${s.waiting_for}.`
    : `${number(s.processed_count)} of ${number(s.total_movies)} films looked up${left}`;
  const tenth = Math.floor((s.processed_count / s.total_movies) * 10);
  if (tenth !== app.heard) $("heard").textContent = `${number(s.processed_count)} of ${number(s.total_movies)} films looked up`;
  app.heard = tenth;
}

/** A word to the reader, at the bottom of the window; nothing takes it back. */
function say(text, bad) {
  $("said").replaceChildren(...(text ? [notice(text, bad)] : []));
}

// --- What the reader does

async function changed() {
  tabs.postMessage({ id: app.id, kind: "changed" });
  const mine = app,
    session = await call(sessionUrl(mine.id));
  if (mine !== app) return;
  mine.session = session;
  await refresh();
}

async function retry() {
  try {
    app.session = await call(sessionUrl(app.id, "/retry"), { method: "POST" });
    watch();
  } catch (error) {
    say(error.message, true);
  }
}

async function forget() {
  const id = app.id;
  app.stop();
  try {
    await call(sessionUrl(id), { method: "DELETE" });
  } catch (error) {
    if (error.status !== 404) return say(error.message, true);
  }
  tabs.postMessage({ id, kind: "forgotten" });
  history.replaceState(null, "", location.pathname);
  await start("The session is deleted. Your corrections stay with the service.");
}

tabs.onmessage = ({ data }) => {
  if (data.id !== app?.id) return;
  if (data.kind === "forgotten") gone("This session was deleted in another tab.");
  else refresh();
};

/** Films of a bar that only the long rankings have, or of one that is not drawn yet. */
async function moreFilms(name) {
  const mine = app,
    key = name.split(":")[0];
  if (RANKINGS.some(part => hasKey(part, key))) await unfold(key, true).catch(() => null);
  if (name.startsWith("film:")) return { title: "Film", ids: [Number(name.slice(5))], mean: null };
  return mine === app ? sets.get(name) : null;
}

async function unfold(key, open) {
  const mine = app,
    year = mine.stats.year;
  const long = mine.long || (await call(statsUrl(mine.id, year, 100)));
  if (mine !== app || mine.stats.year !== year) return;
  mine.long = long;
  mine.all[key] = open;
  mine.tab = key;
  again();
}

const hasKey = (part, key) => part.key === key || part.rankings?.some(each => each.key === key);

/** Draws the rankings that the reader has changed. */
function again() {
  for (const { hosts } of app.layout.sections)
    for (const [part, host] of hosts) if (RANKINGS.includes(part)) redraw(host, part.data(app.stats, app), part.draw);
  tools();
}

document.addEventListener("click", async event => {
  const on = event.target.closest?.("[data-open], [data-year], [data-tab], [data-all], [data-to]");
  if (!on || !app || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const { open, year, tab, all, to } = on.dataset;
  if (on.matches("a")) event.preventDefault();
  if (open) go({ open });
  else if (year !== undefined) go({ year: Number(year) || null, open: null });
  else if (to) {
    const target = $(to);
    target.scrollIntoView();
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  } else if (tab) {
    app.tab = tab;
    again();
  } else if (all) await unfold(all, !app.all[all]).catch(error => say(error.message, true));
});

async function route() {
  const { id, year } = address();
  if (!id) {
    $("films").close();
    $("share").close();
    return app || !main.firstChild ? start() : null;
  }
  if (app?.id !== id) {
    $("films").close();
    return open(id);
  }
  if (app.stats && app.stats.year !== year) {
    app.long = null;
    app.all = {};
    await refresh();
    if (address().year !== year) return;
    main.focus({ preventScroll: true });
    $("heard").textContent = document.title;
  }
  if (app.layout) again();
  await showFilms(id, moreFilms);
}

$("films").addEventListener("close", closed);
for (const dialog of [$("films"), $("share")])
  dialog.addEventListener("click", event => {
    if (event.target === dialog) dialog.close();
  });
addEventListener("popstate", route);
addEventListener("go", route);
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});
addEventListener("drop", async event => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  try {
    await send(await dropped(event.dataTransfer));
  } catch (error) {
    say(error.message || "The files could not be read.", true);
  }
});
addEventListener("beforeprint", () => {
  for (const image of document.images) image.loading = "eager";
});
$("skip").addEventListener("click", event => {
  event.preventDefault();
  main.focus();
});
route();
