// The dialog with the films behind a number or a name: fifty at a time, in any order.
import { call, moviesOf, sessionUrl } from "./api.js";
import { $, h, letterboxd, notice, poster, verdict } from "./dom.js";
import { address, go, sets } from "./state.js";
import { date, list, mean, minutes, plural, titled } from "./words.js";

const STEP = 50;
/** With what a film must have for the order to say something. */
const ORDERS = [
  ["", "Default order", () => true],
  ["-rating", "Highest rated", film => film.rating !== null],
  ["-watched_date", "Recently watched", film => film.watched_date !== null],
  ["-year", "Newest", film => film.year !== null],
  ["year", "Oldest", film => film.year !== null],
];
let shown = null;

/** Shows what the address names; `more` may know films that are not in the report yet. */
export async function showFilms(id, more) {
  const dialog = $("films"),
    name = address().open;
  if (!name) {
    shown = null;
    return dialog.close();
  }
  if (shown === `${id} ${name}` && dialog.open) return;
  const set = sets.get(name) || (await more(name));
  if (address().open !== name) return;
  if (!set) return go({ open: null }, true);
  shown = `${id} ${name}`;
  await fill(dialog, id, set);
}

async function fill(dialog, id, { title, ids, mean: average }) {
  const films = h("ul.films"),
    said = h("div", { role: "status" }),
    more = h("button.more", { onclick: () => add() }),
    order = h("select", { onchange: () => sort() }),
    heading = h("h2", { id: "films-title" }, title),
    alone = ids.length === 1;
  let ordered = ids,
    count = 0;
  const add = async () => {
    const turn = ordered,
      next = ordered.slice(count, count + STEP),
      isMore = count > 0;
    try {
      const movies = await moviesOf(id, next);
      if (turn !== ordered) return;
      films.append(...movies.map(film => h("li", null, row(film, alone))));
      if (alone && movies[0]) heading.textContent = titled(movies[0]);
      if (!order.childElementCount)
        order.append(
          ...ORDERS.filter(([, , says]) => movies.some(says)).map(([value, text]) => h("option", { value }, text)),
        );
      if (isMore) films.children[count]?.querySelector("a")?.focus();
      count += next.length;
      said.replaceChildren();
    } catch (error) {
      said.replaceChildren(notice(error.message, true));
    }
    more.hidden = count >= ordered.length;
    more.textContent = `Show ${Math.min(STEP, ordered.length - count)} more`;
  };
  const sort = async () => {
    const wanted = new Set(ids),
      value = order.value;
    try {
      const all = value ? (await call(sessionUrl(id, `/movies/ids?sort=${value}`))).filter(each => wanted.has(each)) : ids;
      if (order.value !== value) return;
      ordered = all;
      count = 0;
      films.replaceChildren();
      await add();
    } catch (error) {
      said.replaceChildren(notice(error.message, true));
    }
  };
  more.hidden = true;
  const summary =
    !alone &&
    h(
      "div.head",
      null,
      h("p.soft", null, [plural(ids.length, "film"), mean(average)].filter(Boolean).join(" · ")),
      h("label", null, "Order ", order),
    );
  const head = h("div.head", null, heading, h("button", { onclick: () => dialog.close() }, "Close"));
  dialog.className = alone ? "alone" : "";
  dialog.replaceChildren(...[head, summary, films, said, h("p", null, more)].filter(Boolean));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  await add();
}

function row(film, alone) {
  const links = [
    [letterboxd(film.letterboxd_uri), "Letterboxd"],
    [film.tmdb_url, "TMDB"],
  ].filter(([url]) => url);
  const facts = [
    film.directors.length && list(film.directors),
    film.runtime && minutes(film.runtime),
    alone && film.genres.join(", "),
  ];
  const more = alone && [
    film.cast.length > 0 && h("p.small", null, "With ", list(film.cast.slice(0, 6))),
    film.review && h("blockquote", { dir: "auto" }, film.review),
  ];
  return h(
    "div.film",
    null,
    poster(film, alone ? "w342" : "w92"),
    h(
      "div",
      null,
      !alone && h("p", null, h("strong", { dir: "auto" }, film.title), film.year ? ` ${film.year}` : ""),
      (film.rating !== null || film.liked) && h("p", null, verdict(film)),
      facts.some(Boolean) && h("p.small.soft", null, facts.filter(Boolean).join(" · ")),
      film.watched_dates.length > 0 &&
        h(
          "p.small.soft",
          null,
          `Watched ${list(film.watched_dates.slice(0, 6).map(date))}${film.watched_dates.length > 6 ? " and earlier" : ""}`,
        ),
      more,
      h(
        "p.small",
        null,
        links.map(([url, name]) => [
          h("a", { href: url, target: "_blank", rel: "noreferrer", "aria-label": `${name}: ${film.title}` }, name),
          " ",
        ]),
      ),
    ),
  );
}

/** Closing the dialog goes back, if opening it went forward. */
export function closed() {
  shown = null;
  if (!address().open) return;
  if (history.state?.inside) history.back();
  else go({ open: null }, true);
}
