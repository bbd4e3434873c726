// Calls return the service's response, or throw an Error with its message.

export const SAMPLE = "sample";

export async function call(path, options = {}) {
  if (path.startsWith(sessionUrl(SAMPLE))) return sampled(path.slice(sessionUrl(SAMPLE).length));
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw Object.assign(new Error("The service is not responding."), { away: true });
  }
  if (response.status === 204) return null;
  const body = await response.json().catch(() => ({}));
  if (!response.ok)
    throw Object.assign(new Error(body.detail || `The service returned status ${response.status}.`), { status: response.status });
  return body;
}

export const sessionUrl = (id, path = "") => `api/session/${encodeURIComponent(id)}${path}`;
export const statsUrl = (id, year, limit = 10) => sessionUrl(id, `/stats?limit=${limit}${year ? `&year=${year}` : ""}`);

let sample = null;

/** What the service would return of the sample, whose report is a file of the page; see tests/sample.py. */
async function sampled(path) {
  const whole = (key, value) => (typeof value === "string" ? value.replace(/^~/, "https://image.tmdb.org/t/p/w") : value);
  sample ??= JSON.parse(await (await fetch("page/sample.json")).text(), whole);
  const { session, stats } = sample,
    [names, ...rows] = sample.movies,
    movies = rows.map(row => Object.fromEntries(names.map((name, n) => [name, row[n]]))),
    query = new URLSearchParams(path.split("?")[1]),
    sort = query.get("sort");
  if (!path) return session;
  if (path.startsWith("/stats")) return stats;
  if (!sort) return query.get("ids").split(",").map(id => movies.find(movie => movie.movie_id === Number(id)));
  const sign = sort.startsWith("-") ? -1 : 1,
    value = movie => movie[sort.replace("-", "")];
  const [known, unknown] = [true, false].map(isKnown => movies.filter(each => (value(each) !== null) === isKnown));
  known.sort((one, other) => (value(one) < value(other) ? -sign : sign));
  return [...known, ...unknown].map(each => each.movie_id);
}

/** Each file under its path in the folder that it came from, if any. With `id`, as that session's newer export. */
export function upload(files, id) {
  const form = new FormData();
  for (const { file, path } of files) form.append("files", file, path);
  return call(id ? sessionUrl(id, "/export") : "api/upload", { method: "POST", body: form });
}

export async function allMovies(id, filter) {
  const movies = [];
  for (let page; !page || page.length === 1000; movies.push(...page))
    page = await call(sessionUrl(id, `/movies?limit=1000&skip=${movies.length}${filter}`));
  return movies;
}

export const moviesOf = (id, ids) => (ids.length ? call(sessionUrl(id, `/movies?limit=1000&ids=${ids.join(",")}`)) : []);
export const choose = (id, film, choice) =>
  call(sessionUrl(id, `/movies/${film}/match`), {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(choice),
  });
export const clear = (id, film) => call(sessionUrl(id, `/movies/${film}/match`), { method: "DELETE" });
export const undo = (id, film) => call(sessionUrl(id, `/movies/${film}/match/undo`), { method: "POST" });

/** Reports a session's progress until it ends: by server-sent events, or by polling if they fail. */
export function follow(id, onProgress, failed) {
  let over = false,
    timer = 0;
  const source = new EventSource(sessionUrl(id, "/events"));
  const done = () => {
    over = true;
    source.close();
    clearTimeout(timer);
  };
  const poll = async () => {
    if (over) return;
    try {
      const session = await call(sessionUrl(id));
      if (over) return;
      onProgress(session);
      if (ended(session)) return done();
    } catch (error) {
      if (over) return;
      failed(error);
      if (!isTransient(error)) return done();
    }
    timer = setTimeout(poll, 1000);
  };
  source.addEventListener("progress", event => onProgress(JSON.parse(event.data)));
  source.addEventListener("end", event => {
    const session = JSON.parse(event.data);
    source.close();
    onProgress(session);
    if (ended(session)) done();
    else poll(); // the service is stopping
  });
  source.onerror = () => {
    source.close();
    poll();
  };
  return done;
}

/** Whether the error may pass: the service, or a proxy in front of it, may be back in a moment. */
export const isTransient = error => error.away || error.status >= 500;
export const ended = session => session.status === "completed" || session.status === "failed";
