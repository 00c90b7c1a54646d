// The gateway: questions, actions, and the stream of events. The token is in this tab only, and goes
// out as a header, so that no other site can use it.

const KEY = "crabcast-token";
let askForToken = async () => {};
export const onTokenWanted = (ask) => { askForToken = ask; };
export const hasToken = () => sessionStorage.getItem(KEY) !== null;
export const setToken = (token) => (token ? sessionStorage.setItem(KEY, token) : sessionStorage.removeItem(KEY));

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? {...more, Authorization: `Bearer ${token}`} : more;
}

async function errorOf(response) {
  try {
    const {error} = await response.json();
    return new ApiError(response.status, error.code, error.message);
  } catch {
    return new ApiError(response.status, "internal", `the controller answered ${response.status}`);
  }
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/api/v1${path}`, {...options, headers: headers(options.headers), credentials: "omit", cache: "no-store"});
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new ApiError(0, "unavailable", "The controller cannot be reached. Is it running?");
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status !== 401) throw error;
  await askForToken(error.message);
  return request(path, options);
}

export async function get(path, signal) {
  return (await request(path, {signal})).json();
}

export async function post(path, body = {}) {
  return (await request(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).json();
}

export const part = (text) => encodeURIComponent(text);

// All events of a job up to now, page by page; at most `most`.
export async function allEvents(job, signal, most = 5000) {
  const events = [];
  for (let after = 0; events.length < most;) {
    const page = await get(`/jobs/${part(job)}/events?limit=1000&after=${after}`, signal);
    events.push(...page.events);
    if (!page.more) break;
    after = page.next;
  }
  return events;
}

function wait(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, {once: true});
  });
}

// Calls hear(event) for each event from now on, until `signal` aborts; state(true) while it is connected. EventSource
// cannot send a header, so the stream is read by hand.
export async function watch(hear, state, signal) {
  let last = null, pause = 1000;
  while (!signal.aborted) {
    try {
      const more = last === null ? {} : {"Last-Event-ID": last};
      const response = await request("/events/stream", {signal, headers: more});
      state(true);
      pause = 1000;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        text += piece.value;
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const lines = block.split("\n");
          const id = lines.find((line) => line.startsWith("id: ")), data = lines.find((line) => line.startsWith("data: "));
          if (id) last = id.slice(4);
          if (id && data) hear(JSON.parse(data.slice(6)));
        }
      }
    } catch (problem) {
      if (signal.aborted) return;
    }
    state(false);
    await wait(pause, signal);
    pause = Math.min(pause * 2, 15000);
  }
}

// Calls `work` now and then every `ms`, while the page is looked at; errors go to `failed`, null when it works again.
export async function repeat(work, ms, signal, failed) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await work();
        if (!signal.aborted) failed(null);
      } catch (problem) {
        if (!signal.aborted && problem.name !== "AbortError") failed(problem);
      }
    }
    await wait(ms, signal);
  }
}
