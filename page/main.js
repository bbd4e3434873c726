// which view to show when. The URL hash holds the session id, so reloads and new tabs resume it.
import { call, sessionUrl, upload, allMovies, follow, isTransient, ended } from "./api.js";
import { h, $, main, plural, show, notice, dialog } from "./dom.js";
import { reportView, filmRow, DOUBTFUL, matchesView, downloadsView, progressView } from "./report.js";

export let state = null;

/** Shows a notice above the report until the next progress update. */
export function say(text, bad) {
  state.said = text ? notice(text, bad) : null;
  drawProgress();
}

export const statsOf = (at, limit) => sessionUrl(at.id, `/stats?limit=${limit}${at.year ? `&year=${at.year}` : ""}`);

export async function start(message, bad) {
  state?.stop();
  state = null;
  document.title = "Your film diary, in numbers";
  $("actions").replaceChildren();
  const input = h("input.visually-hidden", { type: "file", id: "file", multiple: true, accept: ".zip,.csv", onchange: () => { send([...input.files]); input.value = ""; } });
  const said = h("div", { id: "said" }, message ? notice(message, bad) : null);
  const drop = h("div.drop", {
    ondragover: event => { event.preventDefault(); drop.classList.add("over"); }, ondragleave: () => drop.classList.remove("over"),
    ondrop: event => { event.preventDefault(); drop.classList.remove("over"); send([...event.dataTransfer.files]); },
  }, h("p.lead", null, "Drop your Letterboxd export here"), h("p.soft", null, "the ZIP as it is, or any of its CSVs"),
    h("button.main", { onclick: () => input.click() }, "Choose files"), input);
  input.setAttribute("aria-label", "Letterboxd export");
  input.tabIndex = -1;
  show(h("div.start", null,
    h("p.lead", null, "See which directors, genres and decades you watch, how many hours you have watched, and how you rate films."), said, drop,
    h("h2", null, "Where to find your export"), h("p", null, "On letterboxd.com, go to Settings → Data → ", h("em", null, "Export your data"), ". You get a ZIP of CSV files."),
    h("h2", null, "What happens to your data"), h("p", null, "TMDB receives your films' titles and years, any ids in your upload or corrections, and this service's key. Nothing else leaves the machine that runs the service. Your session is kept in memory and deleted an hour after the lookups finish, or whenever you choose. The last 2,000 TMDB answers and your corrections are kept until the service restarts.")));
  const health = await call("health").catch(() => null);
  if (health?.tmdb_key === "missing") said.append(notice("No TMDB key is set, so films cannot be looked up. You can still see your ratings and diary."));
  if (health?.tmdb_key === "rejected") said.append(notice("TMDB rejects this service's key, so films cannot be looked up.", true));
}

export let sending = false;

export async function send(files) {
  if (!files.length || sending) return;
  sending = true;
  $("said").replaceChildren(notice("Reading your export…"));
  try {
    const session = await upload(files);
    history.pushState(null, "", `#${session.session_id}`);
    await open(session.session_id, session.warnings);
    main.focus();
  } catch (error) {
    $("said")?.replaceChildren(notice(error.message, true));
  } finally {
    sending = false;
  }
}

export async function open(id, warnings = []) {
  state?.stop();
  state = { id, warnings, year: null, stats: null, long: null, doubtful: null, movies: null, views: {}, nodes: {}, rate: 0, turn: 0, drawn: 0, stop() {} };
  const mine = state;
  try {
    mine.session = await call(sessionUrl(id));
  } catch (error) {
    if (mine !== state) return;
    if (!isTransient(error)) history.replaceState(null, "", location.pathname);
    return start(isTransient(error) ? `${error.message} Reload this page when it is back.` : error.message, true);
  }
  $("actions").replaceChildren(h("button", { onclick: () => { history.pushState(null, "", location.pathname); start(); } }, "Upload another export"));
  await refresh();
  if (mine === state) watch();
}

export function watch() {
  const mine = state, began = { at: performance.now(), done: state.session.processed_count };
  if (ended(mine.session)) return;
  mine.stop = follow(mine.id, session => {
    if (mine !== state) return;
    const seconds = (performance.now() - began.at) / 1000;
    mine.rate = seconds > 1 ? (session.processed_count - began.done) / seconds : 0;
    mine.session = session;
    mine.said = null;
    drawProgress();
    if (ended(session)) refresh();
    else if (performance.now() - mine.drawn > 2000) refresh();
  }, error => {
    if (mine !== state) return;
    if (error.status === 404) { history.replaceState(null, "", location.pathname); start(error.message, true); return; }
    say(`${error.message} Trying again…`, true);
  });
}

/** Loads the current statistics and matches. If two refreshes overlap, the later one wins. */
export async function refresh() {
  const mine = state, turn = ++mine.turn, long = Object.values(mine.views).some(view => view.all);
  mine.drawn = performance.now();
  try {
    const filter = DOUBTFUL.map(status => `&match=${status}`).join("");
    const [stats, all, doubtful] = await Promise.all([call(statsOf(mine, 10)), long ? call(statsOf(mine, 100)) : null, allMovies(mine.id, filter)]);
    if (mine !== state || turn !== mine.turn) return;
    doubtful.sort((one, other) => DOUBTFUL.indexOf(one.match.status) - DOUBTFUL.indexOf(other.match.status));
    Object.assign(mine, { stats, long: all, doubtful, movies: null });
    redraw();
  } catch (error) {
    if (mine !== state || turn !== mine.turn) return;
    if (!mine.stats) return start(error.message, true);
    mine.year = mine.stats.year;
    say(error.message, true);
  }
}

export function redraw() {
  const focused = document.activeElement?.dataset?.key, strips = new Map([...main.querySelectorAll(".strip")].map(strip => [strip.ariaLabel, strip.scrollLeft]));
  document.title = `${plural(state.stats.films, "film")} – your film diary`;
  show(h("div", { id: "live" }), warningsView(state.warnings), reportView(state), matchesView(state), downloadsView(state.id));
  drawProgress();
  for (const strip of main.querySelectorAll(".strip")) strip.scrollLeft = strips.get(strip.ariaLabel) || 0;
  if (focused) main.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

export function drawProgress() {
  $("live")?.replaceChildren(...[state.said, progressView(state)].filter(Boolean));
  $("live")?.classList.toggle("stay", Boolean(state.said) || !ended(state.session));
}

export function warningsView(warnings) {
  return warnings.length ? h("details.notice", null, h("summary", null, plural(warnings.length, "problem") + " reading the export"), h("ul", null, warnings.map(text => h("li", null, text)))) : null;
}

export async function chooseYear(year) {
  state.year = year;
  await refresh();
}

export async function showFilms(title, ids) {
  dialog.replaceChildren(h("div.head", null, h("h3", { id: "films-title" }, title), h("button", { onclick: () => dialog.close() }, "Close")), h("p.soft", null, "…"));
  if (!dialog.open) dialog.showModal();
  try {
    state.movies ||= allMovies(state.id).then(movies => new Map(movies.map(movie => [movie.movie_id, movie])));
    const movies = await state.movies;
    dialog.lastChild.replaceWith(h("div", null, h("p.soft", null, plural(ids.length, "film")),
      h("ul.films", null, ids.map(id => movies.get(id)).filter(Boolean).map(film => h("li", null, filmRow(film))))));
  } catch (error) {
    state.movies = null;
    dialog.lastChild.replaceWith(notice(error.message, true));
  }
}

export async function retry() {
  try { state.session = await call(sessionUrl(state.id, "/retry"), { method: "POST" }); redraw(); watch(); } catch (error) { say(error.message, true); }
}

export async function forget() {
  const id = state.id;
  state.stop();
  try { await call(sessionUrl(id), { method: "DELETE" }); } catch (error) { if (error.status !== 404) return say(error.message, true); }
  history.replaceState(null, "", location.pathname);
  await start("Session deleted.");
}

export function route() {
  const id = location.hash.slice(1);
  dialog.close();
  if (id) open(id); else start();
}
dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
addEventListener("popstate", route);
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => event.preventDefault());
route();
