// The pages, by the part of the address behind #, and what they share: sign-in and the stream of events.
import {get, hasToken, onTokenWanted, setToken, watch} from "/assets/api.js";
import {empty, h, note, show} from "/assets/view.js";
import {actorsPage} from "/assets/actors.js";
import {clusterPage} from "/assets/cluster.js";
import {jobPage} from "/assets/job.js";
import {jobsPage} from "/assets/jobs.js";

const main = document.getElementById("main");
const listeners = new Set();  // of events
let leave = new AbortController();
let me = {role: "viewer"};

// What a page gets: its place, the rest of the address, when it is over, who asks, and events.
function contextOf(place, rest, signal) {
  return {
    place, rest, signal,
    get me() { return me; },
    onEvent(hear) {
      listeners.add(hear);
      signal.addEventListener("abort", () => listeners.delete(hear), {once: true});
    },
  };
}

// A place for errors above a page; it says what to do, and goes away by itself.
export function errorPlace() {
  const place = h("div", {"aria-live": "polite", hidden: true});
  return {
    element: place,
    failed(problem) {
      place.hidden = !problem;
      if (problem) show(place, note("bad", h("strong", null, problem.message), h("p", {class: "small"}, "It is tried again every few seconds.")));
    },
  };
}

const PAGES = {cluster: [clusterPage, "Cluster"], jobs: [jobsPage, "Jobs"], actors: [actorsPage, "Actors"]};

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  const name = parts[0] || "cluster";
  let rest = "";
  try {
    rest = decodeURIComponent(parts.slice(1).join("/"));
  } catch { /* not an address of ours */ }
  leave.abort();
  leave = new AbortController();
  const [page, title] = name === "jobs" && rest ? [jobPage, rest] : PAGES[name] ?? [null, "Not found"];
  document.title = `${title} · Crabcast`;
  for (const link of document.querySelectorAll("nav a"))
    link.dataset.page === name ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  if (page) page(contextOf(main, rest, leave.signal));
  else show(main, h("h1", null, "Not found"), empty("There is no such page.", "Choose one above."));
}

// ---- sign in -------------------------------------------------------------------------------------

let asking = null;
onTokenWanted((why) => {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("login"), field = document.getElementById("login-token");
    document.getElementById("login-why").textContent = why;
    field.value = "";
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      setToken(field.value.trim());
      field.value = "";
      asking = null;
      done(learn());
    };
    if (!dialog.open) dialog.showModal();
  });
  return asking;
});

const sign = document.getElementById("sign");
sign.addEventListener("click", () => {
  setToken("");
  location.reload();
});

async function learn() {
  me = await get("/me");
  sign.hidden = !hasToken();
  sign.textContent = `Sign out ${me.name}`;
  document.body.dataset.role = me.role;
}

function showLive(connected) {
  const live = document.getElementById("live");
  live.className = `live ${connected ? "good" : "warn"}`;
  document.getElementById("live-text").textContent = connected ? "Live" : "Reconnecting";
}

async function start() {
  try {
    await learn();
  } catch (problem) {
    show(main, note("bad", h("strong", null, problem.message), h("p", null, "Load the page again when the controller is back.")));
    showLive(false);
    return;
  }
  window.addEventListener("hashchange", () => {
    if (location.hash === "#main") return main.focus();
    route();
    main.focus({preventScroll: true});
    window.scrollTo(0, 0);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  route();
  watch((event) => listeners.forEach((hear) => hear(event)), showLive, new AbortController().signal);
}

start();
