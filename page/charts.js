// Every chart of the page: SVG that scales without a script, one tab stop, arrow keys between its marks, a tip
// by pointer, finger and focus, and a table with the same numbers at the end of its section.
import { $, h, s } from "./dom.js";
import { filmsOf, number, plural } from "./words.js";
import { opens } from "./state.js";

// --- Marks: whatever in a chart has a value. [data-rove] is a group of them, [data-mark] is one.

/** The attributes of a mark. `tip` is what it does not show itself, `opening` the name of the films behind it. */
export const mark = (tip, opening, first, more = {}) => ({
  "data-mark": true,
  "data-tip": tip,
  "data-open": opening,
  tabindex: first ? 0 : -1,
  ...more,
});
const svgMark = (tip, opening, first, more) =>
  mark(tip, opening, first, { role: opening ? "button" : "img", "aria-label": tip, ...more });

let touched = null;

function showTip(on, again) {
  const tip = $("tip");
  tip.hidden = !on;
  if (!on) return;
  tip.textContent = on.dataset.tip + (again ? " – tap again for the films" : "");
  const box = on.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(box.left + box.width / 2 - tip.offsetWidth / 2, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.top < tip.offsetHeight + 12 ? box.bottom + 8 : box.top - tip.offsetHeight - 8}px`;
}

const markAt = event => {
  const own = event.target.closest?.("[data-tip]");
  if (own || event.pointerType !== "touch") return own;
  const plot = event.target.closest?.(".plot");
  return plot && nearest([...plot.querySelectorAll("[data-tip]")], event.clientX, event.clientY);
};

/** A finger is wider than a column: the nearest mark counts. */
function nearest(marks, x, y) {
  const away = each => {
    const box = each.getBoundingClientRect();
    return Math.max(box.left - x, 0, x - box.right) + Math.max(box.top - y, 0, y - box.bottom);
  };
  return marks.reduce((best, each) => (!best || away(each) < away(best) ? each : best), null);
}

document.addEventListener("pointerover", event => {
  if (event.pointerType !== "touch") showTip(event.target.closest?.("[data-tip]"));
});
document.addEventListener("focusin", event => {
  if (event.target.matches?.("[data-tip]:focus-visible")) showTip(event.target);
});
document.addEventListener("focusout", () => showTip(null));
document.addEventListener(
  "scroll",
  () => {
    showTip(null);
    touched = null;
  },
  true,
);
document.addEventListener("keydown", event => {
  if (event.key === "Escape") showTip(null);
});
/** The first tap on a mark of a plot shows its value, the second opens its films. */
document.addEventListener(
  "click",
  event => {
    if (event.pointerType !== "touch" || !event.target.closest?.(".plot")) return;
    const on = markAt(event);
    if (on && on !== touched) {
      event.stopPropagation();
      event.preventDefault();
      showTip((touched = on), on.dataset.open);
    } else if (on && !event.target.closest("[data-tip]")) on.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  },
  true,
);

document.addEventListener("keydown", event => {
  const group = event.target.closest?.("[data-rove]");
  if (!group || !event.target.matches("[data-mark]")) return;
  const marks = [...group.querySelectorAll("[data-mark]")],
    at = marks.indexOf(event.target);
  const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 }[
    event.key
  ];
  if (to !== undefined) {
    event.preventDefault();
    if (!marks[to]) return;
    event.target.setAttribute("tabindex", -1);
    marks[to].setAttribute("tabindex", 0);
    marks[to].focus();
  } else if ((event.key === "Enter" || event.key === " ") && !event.target.matches("button, a")) {
    event.preventDefault();
    event.target.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  }
});

// --- What all charts have in common

const numbers = new WeakMap();

/** `rows` are the numbers as a table, the first row its head. */
function figure(title, plot, { rows, note, wide, kind = "" }) {
  const made = h(
    `figure.chart${wide ? ".wide" : ""}${kind && `.${kind}`}`,
    null,
    h("figcaption", null, h("h3", null, title), note && h("p.note", null, note)),
    plot,
  );
  numbers.set(made, () => tableOf(title, rows()));
  return made;
}

/** Whatever charts a section has, as tables. They are written when somebody wants to read them. */
export function tablesOf(section) {
  const charts = () => [...section.querySelectorAll("figure.chart")].filter(each => each.checkVisibility()),
    host = h("div");
  const write = () => view.open && host.replaceChildren(...charts().map(each => numbers.get(each)()));
  const view = h("details.as-tables", { ontoggle: write }, h("summary", null, "Show the numbers as tables"), host);
  const update = () => {
    view.hidden = !charts().length;
    write();
  };
  return { view, update };
}

const tableOf = (title, [head, ...body]) =>
  h(
    "table",
    { tabindex: 0 }, // to scroll it with the keyboard
    h("caption", null, title),
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        head.map(name => h("th", { scope: "col" }, name)),
      ),
    ),
    h(
      "tbody",
      null,
      body.map(([name, ...cells]) =>
        h(
          "tr",
          null,
          h("th", { scope: "row" }, name),
          cells.map(cell => h("td", null, cell)),
        ),
      ),
    ),
  );

/** Round steps for up to four gridlines. */
function ticks(top) {
  const rough = top / 3,
    unit = 10 ** Math.floor(Math.log10(rough || 1));
  const step = Math.max(1, [1, 2, 5, 10].find(factor => factor * unit >= rough) * unit);
  return Array.from({ length: Math.floor(top / step) }, (_, n) => (n + 1) * step);
}

const grid = (values, height) =>
  values.map(value => [
    s("line.grid", { x1: 0, x2: "100%", y1: `${height(value)}%`, y2: `${height(value)}%` }),
    s("text.tick", { x: 0, y: `${height(value)}%`, dy: "-0.25em", "aria-hidden": "true" }, number(value)),
  ]);

/** A label under the plot, at a share of its width. `minor` ones are left out where space is short. */
const under = (at, text, minor, end = "") =>
  h(`span${minor ? ".minor" : ""}${end && `.${end}`}`, { style: { left: `${at * 100}%` } }, text);

/** One value may be so large that it would flatten all others, as when a catalogue is logged on one day. */
function topOf(counts) {
  const [most = 1, second = 0] = [...counts].sort((one, other) => other - one);
  return most > 25 && most > 5 * second && second
    ? { top: second * 1.25, most, isCut: true }
    : { top: Math.max(most, 1), most, isCut: false };
}

// --- Charts

/**
 * Columns. `short` names them under the plot, `say` in the tip, `value` above them if there is room, else only
 * above the highest. `curve` is `{ counts, name }`, as many films counted otherwise, to draw behind them.
 */
export function columns(
  key,
  title,
  bars,
  { short = name => name, minor, say = filmsOf, value = bar => number(bar.count), curve, note, wide, of = "Films", kind } = {},
) {
  const counts = bars.map(bar => bar.count),
    most = Math.max(...counts);
  const { top, isCut } = curve ? { top: Math.max(...counts, ...curve.counts) } : topOf(counts);
  const height = value => 100 - Math.min(value / top, 1) * 84,
    count = bars.length,
    all = count <= 15,
    hasValues = all && count * number(most).length <= 50; // else they would touch
  let peaks = 0;
  const first = bars.findIndex(bar => bar.count);
  const drawn = bars.map((bar, index) => {
    if (!bar.count) return null;
    const y = height(bar.count),
      isPeak = bar.count === most && !peaks++;
    return s(
      isPeak ? "g.mark.peak" : "g.mark",
      svgMark(
        `${bar.name}: ${say(bar)}`,
        opens(`${key}:${bar.name}`, `${title}: ${bar.name}`, bar.movie_ids, bar.mean_rating),
        index === first,
      ),
      s("rect.hit", { x: `${(index / count) * 100}%`, width: `${100 / count}%`, y: 0, height: "100%" }),
      s("rect.bar", {
        x: `${((index + 0.1) / count) * 100}%`,
        width: `${80 / count}%`,
        y: `${y}%`,
        height: `${100 - y}%`,
        rx: count > 40 ? 0 : 2,
      }),
      bar.count > top && s("rect.cut", { x: `${(index / count) * 100}%`, width: `${100 / count}%`, y: `${y + 8}%`, height: 4 }),
      (hasValues || isPeak) &&
        s(
          count > 8 && !isPeak ? "text.value.minor" : "text.value",
          {
            x: `${((index + 0.5) / count) * 100}%`,
            y: `${y}%`,
            dy: "-0.4em",
            "text-anchor": hasValues || (index > 2 && index < count - 3) ? "middle" : index > 2 ? "end" : "start",
          },
          hasValues ? value(bar) : `${bar.name}: ${value(bar)}`,
        ),
    );
  });
  const isMinor = minor || (index => (all ? count > 7 && index % 2 === 1 : index % Math.ceil(count / 8) !== 0));
  const named = bars.map((_, index) => index).filter(index => all || !isMinor(index, count));
  const names = named.map((index, place) => {
    const isLess = all ? isMinor(index, count) : named.length > 6 && place % 2 === 1;
    const name = short(bars[index].name),
      isWide = !index && count > 8 && name.length > 3; // so it begins where the plot does
    return under(isWide ? 0 : (index + 0.5) / count, name, isLess, isWide ? "from-left" : "");
  });
  const plot = h(
    "div.plot",
    { role: "group", "aria-label": title, "data-rove": true },
    s(
      "svg",
      { width: "100%", height: "100%" },
      hasValues ? null : grid(ticks(top), height),
      curve && crowd(curve.counts.map(height)),
      drawn,
    ),
    curve && curveName(curve, height),
    h("div.axis", { "aria-hidden": "true" }, names),
  );
  const more = isCut ? `The highest column is cut off: it stands for ${number(most)}.` : "";
  return figure(title, plot, {
    rows: () => [["Name", of, "Mean rating"], ...bars.map(bar => [bar.name, number(bar.count), bar.mean_rating ?? "–"])],
    note: note || more ? [note, " ", more] : null,
    wide,
    kind,
  });
}

/** Beside the highest point of the curve, on the side that has more room. */
function curveName({ counts, name }, height) {
  const peak = counts.indexOf(Math.max(...counts)),
    isRight = peak < counts.length / 2,
    x = ((isRight ? peak + 1 : peak) / counts.length) * 100;
  return h(
    isRight ? "span.curve-name" : "span.curve-name.to-left",
    { style: { left: `${x}%`, top: `${height(counts[peak]) * 0.85}%` }, "aria-hidden": "true" },
    name,
  );
}

/** A smooth area through the middle of each column. */
function crowd(heights) {
  const at = index => ((index + 0.5) / heights.length) * 100,
    points = heights.map((y, index) => [at(index), y]);
  const curve = points
    .slice(1)
    .map(([x, y], index) => {
      const [px, py] = points[index],
        middle = (px + x) / 2;
      return `C${middle} ${py} ${middle} ${y} ${x} ${y}`;
    })
    .join("");
  const line = `M${points[0].join(" ")}${curve}`;
  return s(
    "svg.crowd",
    { viewBox: "0 0 100 100", preserveAspectRatio: "none", width: "100%", height: "100%", "aria-hidden": "true" },
    s("path.area", { d: `${line}L${points.at(-1)[0]} 100L${points[0][0]} 100Z` }),
    s("path.edge", { d: line }),
  );
}

/** Cumulative lines, one per year, over each other. `years` are `{ year, days: [[day of the year, count], …], total }`. */
export function lines(title, years, { note }) {
  const top = Math.max(1, ...years.map(each => each.total)),
    height = value => 100 - (value / top) * 90;
  const latest = years.at(-1).year;
  const paths = years.map(({ year, days, total, length }) => {
    let sum = 0,
      d = "M0 100";
    for (const [day, count] of days) {
      d += `H${((day / 366) * 100).toFixed(2)}V${height((sum += count)).toFixed(2)}`;
    }
    d += `H${((length / 366) * 100).toFixed(2)}`;
    const text = `${year}: ${plural(total, "viewing")}`;
    return s(
      year === latest ? "g.mark.line.latest" : "g.mark.line",
      { role: "link", "aria-label": text, "data-tip": text, "data-year": year, tabindex: year === latest ? 0 : -1 },
      s("path.hit", { d }),
      s("path.stroke", { d }),
    );
  });
  let last = -10;
  const ends = [...years]
    .sort((one, other) => height(one.total) - height(other.total))
    .map(({ year, total, length }) => {
      const y = height(total);
      if (y - last < 7 && year !== latest) return null;
      last = y;
      return h(
        year === latest ? "span.end.latest" : "span.end",
        { style: { top: `${y}%`, left: `${Math.min(length / 366, 1) * 100}%` } },
        `${year} · ${number(total)}`,
      );
    });
  const plot = h(
    "div.plot.tall.ended",
    { role: "group", "aria-label": title, "data-rove": true },
    s(
      "svg",
      { width: "100%", height: "100%" },
      grid(ticks(top), height),
      s("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", width: "100%", height: "100%" }, paths),
    ),
    h("div.ends", { "aria-hidden": "true" }, ends),
    h(
      "div.axis",
      { "aria-hidden": "true" },
      [..."JFMAMJJASOND"].map((letter, month) => under((month + 0.5) / 12, letter, month % 3 !== 0)),
    ),
  );
  return figure(title, plot, {
    rows: () => [["Year", "Viewings"], ...years.map(each => [each.year, number(each.total)])],
    note,
    wide: true,
  });
}

const CELL = 13;
/** Shades are the same in every year. */
const level = count => (count > 3 ? 4 : count);

/** One square per day of the year, in two halves that share a line or not: weeks run left to right, with Monday on top. */
export function calendar(year, days, say, name) {
  const start = Date.UTC(year, 0, 1),
    offset = (new Date(start).getUTCDay() + 6) % 7,
    dayOf = (month, day = 1) => (Date.UTC(year, month, day) - start) / 864e5;
  let first = true;
  const half = (from, until) => {
    const week = day => Math.floor((day + offset) / 7),
      place = day => [(week(day) - week(from)) * CELL, 14 + ((day + offset) % 7) * CELL];
    const squares = Array.from({ length: until - from }, (_, n) => `M${place(from + n).join(" ")}h11v11h-11z`).join("");
    const marks = days.map(bar => {
      const day = (Date.parse(bar.name) - start) / 864e5;
      if (day < from || day >= until) return null;
      const [x, y] = place(day),
        opening = opens(`day:${bar.name}`, name(bar), bar.movie_ids, bar.mean_rating),
        made = s(
          `rect.mark.day.l${level(bar.count)}`,
          svgMark(say(bar), opening, first, { x, y, width: 11, height: 11, rx: 2 }),
        );
      first = false;
      return made;
    });
    const months = [..."JFMAMJJASOND"]
      .map((letter, month) => [dayOf(month), letter])
      .filter(([day]) => day >= from && day < until)
      .map(([day, letter]) => s("text", { x: place(day)[0], y: 9, "aria-hidden": "true" }, letter));
    return s("svg", { viewBox: `0 0 ${28 * CELL - 2} 104` }, months, s("path.empty", { d: squares }), marks);
  };
  return h(
    "div.plot.calendar",
    { role: "group", "aria-label": `Viewings in ${year}`, "data-rove": true },
    h("span.year", { "aria-hidden": "true" }, String(year)),
    half(0, dayOf(6)),
    half(dayOf(6), dayOf(12)),
  );
}

export const calendars = (title, plots, more, rows) =>
  figure(
    title,
    h(
      "div",
      null,
      h("div.calendars", null, plots),
      h("div.row", null, legend("Viewings a day", "day", ["1", "2", "3", "4 or more"]), more),
    ),
    { rows, wide: true },
  );

/** What the four shades stand for; null for one that nothing has. */
const legend = (what, kind, names) =>
  h(
    "p.legend",
    { "aria-hidden": "true" },
    what,
    names.map(
      (name, n) =>
        name &&
        h(
          "span",
          null,
          s("svg", { width: 12, height: 12 }, s(`rect.${kind}.l${n + 1}`, { width: 12, height: 12, rx: 2 })),
          ` ${name} `,
        ),
    ),
  );

/** Tiles in their place on the map. `continents` are `[name, rows of codes]`, `known` has a bar by code. */
export function world(title, continents, known, nameOf, note) {
  const most = Math.max(1, ...[...known.values()].map(bar => bar.count)),
    rows = [],
    shadeOf = count => 1 + Math.min(3, Math.floor((Math.log(count) / Math.log(most + 1)) * 4));
  const shades = [[], [], [], []];
  for (let count = 1; count <= most; count++) shades[shadeOf(count) - 1].push(count);
  let first = true;
  const maps = continents.map(([continent, lines]) => {
    const tiles = lines.flatMap((line, y) =>
      line.split(" ").map((code, x) => {
        if (code === "..") return null;
        const bar = known.get(code),
          name = nameOf(code),
          text = bar ? `${bar.name}: ${filmsOf(bar)}` : `${name}: no films`;
        if (bar) rows.push([bar.name, number(bar.count), bar.mean_rating ?? "–"]);
        const shade = bar ? shadeOf(bar.count) : 0;
        const tile = s(
          `g.tile.l${shade}${bar ? ".mark" : ""}`,
          bar
            ? svgMark(text, opens(`world:${bar.name}`, bar.name, bar.movie_ids, bar.mean_rating), first)
            : { "aria-hidden": "true" },
          s("rect", { x: x * 34, y: y * 34, width: 32, height: 32, rx: 4 }),
          s("text", { x: x * 34 + 16, y: y * 34 + 21, "text-anchor": "middle", "aria-hidden": "true" }, code),
        );
        if (bar) first = false;
        else tile.append(s("title", null, text));
        return tile;
      }),
    );
    const across = Math.max(...lines.map(line => line.split(" ").length));
    return h(
      "div.continent",
      { style: { "--columns": across } },
      h("p", { "aria-hidden": "true" }, continent),
      s("svg", { viewBox: `0 0 ${across * 34 - 2} ${lines.length * 34 - 2}` }, tiles),
    );
  });
  const range = counts => (counts.length > 1 ? `${number(counts[0])}–${number(counts.at(-1))}` : number(counts[0])),
    key = legend("Films", "shade", shades.map(counts => (counts.length ? range(counts) : null)));
  const plot = h("div", null, h("div.plot.world", { role: "group", "aria-label": title, "data-rove": true }, maps), key);
  return figure(title, plot, {
    rows: () => [["Country", "Films", "Mean rating"], ...rows],
    note,
    wide: true,
  });
}

/** A share from 0 to 1 as a bar, or a rating as a dot between half a star and five. */
export const meter = share =>
  s(
    "svg.meter",
    { width: "100%", height: 6, "aria-hidden": "true" },
    s("rect.track", { width: "100%", height: 6, rx: 3 }),
    s("rect.bar", { width: `${Math.max(share * 100, 1)}%`, height: 6, rx: 3 }),
  );
export const dot = rating =>
  s(
    "svg.meter.rating",
    { width: "100%", height: 12, "aria-hidden": "true" },
    s("line.track", { x1: "2%", x2: "98%", y1: 6, y2: 6 }),
    [1, 2, 3, 4, 5].map(value => s("line.track", { x1: `${at(value)}%`, x2: `${at(value)}%`, y1: 3, y2: 9 })),
    s("circle.bar", { cx: `${at(rating)}%`, cy: 6, r: 5 }),
  );
const at = rating => 2 + ((rating - 0.5) / 4.5) * 96;

/** Named rows with a bar or a dot each; `say` stands at their end. */
export const rows = (key, bars, { draw, ...words }) =>
  openable("ol.rows", key, bars, words, (bar, name, say) => [name, say, draw(bar)]);

/** A list of what has films: each opens them. `content` makes what stands in it, from its name and `say`. */
export function openable(list, key, bars, { say = filmsOf, name = bar => bar.name }, content) {
  return h(
    list,
    { "data-rove": true },
    bars.map((bar, index) =>
      h(
        "li",
        null,
        h(
          "button",
          mark(
            null,
            opens(`${key}:${bar.tmdb_id ?? bar.name}`, name(bar), bar.movie_ids, bar.mean_rating),
            !index,
            { "data-key": `${key}:${bar.tmdb_id ?? bar.name}` },
          ),
          content(bar, h("span.name", null, name(bar)), h("span.say", null, say(bar))),
        ),
      ),
    ),
  );
}
