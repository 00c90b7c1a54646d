// All jobs: where each is, how far, and why one waits.
import {get, repeat} from "/assets/api.js";
import {errorPlace} from "/assets/app.js";
import {ago, count, duration, isOver, moment, number, whole} from "/assets/format.js";
import {bar, card, empty, h, show, state, table} from "/assets/view.js";

const STATES = [["", "All"], ["open", "Not over"], ["pending", "Waiting"], ["running", "Running"], ["succeeded", "Succeeded"], ["stopped", "Stopped"], ["failed", "Failed"], ["cancelled", "Cancelled"]];

export function progress(job) {
  const label = job.steps ? `step ${whole(job.step)} of ${whole(job.steps)}` : `step ${whole(job.step)}`;
  return h("span", {class: "amount"}, h("span", {class: "small num"}, job.steps ? `${whole(job.step)} / ${whole(job.steps)}` : whole(job.step)),
    bar(job.steps ? job.step / job.steps : 0, label));
}

// When it starts, or ends.
export function eta(job) {
  if (job.state === "pending") return job.estimated_start_unix_ms ? `starts ${moment(job.estimated_start_unix_ms)}` : "start not known";
  if (job.state === "running" && job.eta_seconds > 0) return `${duration(job.eta_seconds)} left`;
  return isOver(job) ? `ended ${moment(job.ended_unix_ms)}` : "–";
}

export function why(job) {
  if (job.held) return "held";
  return job.reason || (job.state === "pending" && job.pending_reason) || "";
}

export function jobsPage(context) {
  const error = errorPlace(), place = h("div", null, empty("Loading")), total = h("span", {class: "small muted", role: "status"});
  const wanted = new URLSearchParams(context.rest);
  let page = 1;
  const field = {
    state: h("select", {name: "state"}, STATES.map(([value, name]) => h("option", {value}, name))),
    search: h("input", {name: "search", type: "search", placeholder: "part of a name", maxlength: 100}),
    queue: h("input", {name: "queue", placeholder: "any", maxlength: 100}),
    owner: h("input", {name: "owner", placeholder: "anybody", maxlength: 100}),
  };
  for (const [name, input] of Object.entries(field)) input.value = wanted.get(name) ?? "";
  const jobs = table([
    {name: "Job", head: true, cell: (j) => h("a", {href: `#/jobs/${encodeURIComponent(j.job)}`}, j.job)},
    {name: "State", cell: (j) => state(j.state)},
    {name: "Progress", cell: progress},
    {name: "Loss", num: true, cell: (j) => (j.losses.length ? number(j.loss) : "")},
    {name: "Samples/s", num: true, cell: (j) => (j.state === "running" ? number(j.samples_per_second, 1) : "")},
    {name: "Workers", num: true, cell: (j) => (j.state === "running" ? `${whole(j.workers_alive)} / ${whole(j.workers_wanted)}` : "")},
    {name: "Queue", cell: (j) => [j.queue || "default", j.owner && h("span", {class: "muted small"}, ` · ${j.owner}`)]},
    {name: "Submitted", cell: (j) => `${ago(j.submitted_unix_ms)} ago`},
    {name: "ETA", cell: eta},
    {name: "Reason", wide: true, cell: (j) => why(j) && h("span", {class: "small"}, why(j))},
  ], {caption: "Jobs"});
  const where = h("span", {class: "small muted"});
  const turn = (by) => () => { page += by; refresh().catch(error.failed); };
  const back = h("button", {type: "button", onclick: turn(-1)}, "Newer"), on = h("button", {type: "button", onclick: turn(1)}, "Older");
  const pager = h("div", {class: "pager", role: "navigation", "aria-label": "Pages of the list"}, where, back, on);
  const filters = h("form", {class: "filters", role: "search", onsubmit: (e) => e.preventDefault(), oninput: () => { page = 1; refresh().catch(error.failed); }},
    h("label", null, "State", field.state), h("label", null, "Name", field.search), h("label", null, "Queue", field.queue), h("label", null, "Owner", field.owner));
  show(context.place, h("div", {class: "head"}, h("h1", null, "Jobs"), total), error.element, card("", null, filters, place, pager));

  async function refresh() {
    const query = new URLSearchParams({page, limit: 50});
    for (const [name, input] of Object.entries(field)) if (input.value.trim()) query.set(name, input.value.trim());
    const list = await get(`/jobs?${query}`, context.signal);
    const filtered = query.size > 2;
    total.textContent = count(list.total, "job");
    // The age is no part of what the server says: a new text each minute renders the row anew.
    jobs.update(list.jobs.map((j) => ({...j, age: ago(j.submitted_unix_ms)})), (j) => j.job);
    show(place, list.jobs.length ? jobs.element : filtered ? empty("No job matches.", "Change the filters above.") : empty("There are no jobs yet.", "Submit one: crabcast submit job.yaml"));
    pager.hidden = list.pages < 2;
    where.textContent = `Page ${whole(list.page)} of ${whole(list.pages)}`;
    back.disabled = page <= 1;
    on.disabled = page >= list.pages;
  }
  context.onEvent((event) => ["submitted", "placed", "job_started", "job_succeeded", "job_failed", "job_stopped", "job_cancelled"].includes(event.kind) && refresh().catch(error.failed));
  repeat(refresh, 3000, context.signal, error.failed);
}

