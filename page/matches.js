// Films that were guessed, corrected or not found: confirm, choose another, search, undo.
import { allMovies, call, choose, clear, ended, sessionUrl, undo } from "./api.js";
import { h, named, notice, poster, update } from "./dom.js";
import { number, plural, titled } from "./words.js";

const OPEN = ["guessed", "failed", "not_found"],
  ALL = [...OPEN, "corrected"];
const WORDS = {
  guessed: "guessed",
  not_found: "not found",
  failed: "failed",
  corrected: "corrected",
  exact: "exact",
  pending: "waiting",
};
const FEW = 8, // shown at once; of more, only the first
  FIRST = 3;

/** Whether no key is set, so that no match is worth a look. */
export const nothingAsked = session => session.error_message && session.status === "completed" && !session.enriched_count;

export const doubtful = id => allMovies(id, ALL.map(status => `&match=${status}`).join(""));

/** Open ones first, among them the most watched first. */
function sorted(films) {
  const rank = film => [film.match.status === "corrected", !film.watched, -film.watched_dates.length, film.rating === null];
  const compare = (one, other) => {
    const a = rank(one),
      b = rank(other),
      at = a.findIndex((value, n) => value !== b[n]);
    return at < 0 ? 0 : a[at] - b[at];
  };
  return [...films].sort(compare);
}

/** The section; one row per film stays as long as its match does, so that typed text and open details stay. */
export function matchesView(app, changed, retry) {
  const head = h("p.lead"),
    again = h("p"),
    rows = h("ul.matches-list"),
    more = h("p", { hidden: true }, h("button.more", { onclick: () => (further += 100) && draw() })),
    nodes = new Map();
  let further = 0;
  const draw = () => {
    const unasked = nothingAsked(app.session),
      films = unasked ? [] : sorted(app.doubtful || []);
    const open = films.filter(film => OPEN.includes(film.match.status)).length,
      done = ended(app.session);
    update(
      head,
      unasked
        ? "No films were looked up."
        : open
          ? `${plural(open, "film")} to check in the whole export.`
          : done
            ? "Every match is certain."
            : "Nothing to check so far.",
      text => text,
    );
    update(again, !unasked && open > 0 && done, can => can && h("button", { onclick: retry }, "Look up missing films again"));
    const count = films.length > FEW ? FIRST + further : FEW,
      wanted = films.slice(0, count).map(film => node(film)),
      keep = [...rows.children].filter(row => row.dataset.settled);
    for (const row of [...rows.children]) if (!wanted.includes(row) && !keep.includes(row)) row.remove();
    for (const row of wanted) if (row.parentNode !== rows) rows.append(row);
    rows.hidden = !rows.children.length;
    more.hidden = films.length <= count;
    more.firstChild.textContent = `Show ${number(Math.min(films.length - count, 100))} more`;
  };
  const node = film => {
    const key = `${film.match.status} ${film.tmdb_id}`,
      known = nodes.get(film.movie_id);
    if (known && (known.dataset.settled || known.dataset.match === key)) return known;
    const made = matchNode(app, film, changed);
    made.dataset.match = key;
    nodes.set(film.movie_id, made);
    return made;
  };
  return {
    draw,
    view: h(
      "section.matches",
      { id: "matches", "aria-labelledby": "matches-title" },
      h("h2", { id: "matches-title" }, "Matches"),
      h("div.head", null, head, again),
      rows,
      more,
    ),
  };
}

function matchNode(app, film, changed) {
  const row = h("li.match", { "data-film": film.movie_id });
  const act = (doing, done) => async () => {
    const said = row.querySelector(":scope > [role=status]");
    said.replaceChildren("One moment…");
    try {
      await done(await doing());
      await changed();
    } catch (error) {
      said.replaceChildren(notice(error.message, true));
    }
  };
  /** A word on what happened, and a way back. The focus stays here. */
  const settle = text => {
    row.dataset.settled = "yes";
    const back = h(
      "button",
      {
        onclick: act(
          () => undo(app.id, film.movie_id),
          before => {
            delete row.dataset.settled;
            show({ ...film, ...before });
            row.querySelector("button, summary").focus({ preventScroll: true });
          },
        ),
      },
      "Undo",
    );
    row.replaceChildren(h("p", { role: "status" }, text, " "), back);
    back.focus({ preventScroll: true });
  };
  const set = choice =>
    act(
      () => choose(app.id, film.movie_id, choice),
      now => settle(`${titled(film)} is matched with ${now.tmdb_title} (${now.release_date?.slice(0, 4) ?? "no year"}).`),
    );
  const show = film => {
    const choice = film.tmdb_id && { tmdb_id: film.tmdb_id, tmdb_type: film.tmdb_type },
      isOpen = OPEN.includes(film.match.status);
    const said = h("div", { role: "status" }),
      fix = h("div.fix"),
      details = h(
        "details",
        { ontoggle: () => details.open && !fix.childElementCount && fill(fix, film) },
        h("summary", { "aria-label": `Choose another for ${film.title}` }, film.tmdb_id ? "Choose another" : "Choose"),
        fix,
      );
    row.replaceChildren(
      h(
        choice ? "div.film" : "div",
        null,
        choice && poster({ ...film, title: film.tmdb_title }, "w154"),
        h(
          "div",
          null,
          h("p", null, h("strong", null, named(film)), " ", h("span.tag", null, WORDS[film.match.status])),
          film.tmdb_title && h("p", null, "→ ", h("bdi", null, film.tmdb_title), film.release_date ? ` (${film.release_date.slice(0, 4)})` : ""),
          h("p.soft.small", { dir: "auto" }, film.match.reason),
          isOpen &&
            choice &&
            h("button.main", { "aria-label": `Yes, ${film.title} is right`, onclick: set(choice) }, "That’s right"),
        ),
      ),
      details,
      said,
    );
  };
  const fill = async (fix, film) => {
    const list = h("ul.candidates"),
      link = h("input", {
        type: "url",
        placeholder: "https://www.themoviedb.org/movie/…",
        "aria-label": `TMDB link for ${film.title}`,
      });
    const query = h("input", { type: "search", value: film.title, "aria-label": `Another title for ${film.title}` }),
      found = h("div", { role: "status" });
    const offer = candidates =>
      list.replaceChildren(
        ...candidates.map(each =>
          h(
            "li",
            null,
            h(
              "button.candidate",
              { "aria-label": `Choose ${titled(each)}`, onclick: set({ tmdb_id: each.tmdb_id, tmdb_type: each.tmdb_type }) },
              poster(each, "w92"),
              h(
                "span",
                null,
                named(each),
                h("span.soft", null, each.tmdb_type === "tv" ? "series" : plural(each.votes, "vote")),
              ),
            ),
          ),
        ),
      );
    const search = async event => {
      event.preventDefault();
      found.replaceChildren("Searching…");
      try {
        const candidates = await call(
          sessionUrl(app.id, `/movies/${film.movie_id}/candidates?q=${encodeURIComponent(query.value)}`),
        );
        offer(candidates);
        found.replaceChildren(
          candidates.length ? `${plural(candidates.length, "film")} found.` : "TMDB has no film with this title.",
        );
      } catch (error) {
        found.replaceChildren(notice(error.message, true));
      }
    };
    fix.replaceChildren(
      list,
      h("form.row", { onsubmit: search }, query, h("button", null, "Search TMDB")),
      found,
      h(
        "form.row",
        {
          onsubmit: event => {
            event.preventDefault();
            set({ tmdb_url: link.value })();
          },
        },
        link,
        h("button", null, "Use this link"),
      ),
      film.tmdb_enriched
        ? h(
            "p",
            null,
            h(
              "button",
              {
                onclick: act(
                  () => clear(app.id, film.movie_id),
                  () => settle(`${titled(film)} has no match now.`),
                ),
              },
              "None of these",
            ),
          )
        : "",
    );
    offer((await call(sessionUrl(app.id, `/movies/${film.movie_id}`)).catch(() => ({ candidates: [] }))).candidates);
  };
  show(film);
  return row;
}
