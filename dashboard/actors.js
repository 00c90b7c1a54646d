// Every process of every job, and how it is.
import {get, repeat} from "/assets/api.js";
import {errorPlace} from "/assets/app.js";
import {ago, count, whole} from "/assets/format.js";
import {card, empty, h, show, state, table} from "/assets/view.js";

export function actorTable(withJob) {
  return table([
    ...(withJob ? [{name: "Job", cell: (a) => h("a", {href: `#/jobs/${encodeURIComponent(a.job)}`}, a.job)}] : []),
    {name: "Actor", head: true, cell: (a) => a.name},
    {name: "State", cell: (a) => state(a.state)},
    {name: "Since", cell: (a) => (a.since_unix_ms ? `${a.age} ago` : "–")},
    {name: "Mailbox", num: true, cell: (a) => whole(a.mailbox)},
    {name: "Restarts", num: true, cell: (a) => whole(a.restarts)},
    {name: "Node", cell: (a) => [a.node || "–", a.pid ? h("span", {class: "muted small"}, ` pid ${a.pid}`) : ""]},
    {name: "Doing", wide: true, cell: (a) => a.doing && h("span", {class: "small"}, a.doing)},
    {name: "Reason", wide: true, cell: (a) => a.reason && h("span", {class: "small"}, a.reason)},
  ], {caption: "Actors"});
}

export const aged = (actors) => actors.map((a) => ({...a, age: ago(a.since_unix_ms)}));

export function actorsPage(context) {
  const error = errorPlace(), place = h("div", null, empty("Loading")), total = h("span", {class: "small muted", role: "status"});
  const actors = actorTable(true);
  const troubled = h("input", {type: "checkbox"});
  const search = h("input", {type: "search", placeholder: "job, actor or node", maxlength: 100});
  const again = () => refresh().catch(error.failed);
  show(context.place, h("div", {class: "head"}, h("h1", null, "Actors"), total), error.element,
    card("", null, h("form", {class: "filters", role: "search", onsubmit: (e) => e.preventDefault(), oninput: again},
      h("label", null, "Search", search), h("label", null, "Not healthy only", troubled)), place));

  async function refresh() {
    const {actors: all} = await get("/actors", context.signal);
    const text = search.value.trim().toLowerCase();
    const chosen = all.filter((a) => !(troubled.checked && a.state === "healthy") && `${a.job} ${a.name} ${a.node}`.toLowerCase().includes(text)).slice(0, 500);
    const ill = all.filter((a) => !["healthy", "starting"].includes(a.state)).length;
    total.textContent = `${count(all.length, "actor")}, ${ill ? `${whole(ill)} not healthy` : "all well"}${chosen.length === 500 ? "; the first 500 are shown" : ""}`;
    actors.update(aged(chosen), (a) => `${a.job}/${a.name}`);
    show(place, chosen.length ? actors.element : empty(all.length ? "No actor matches." : "No job runs.", all.length ? "Change the filters above." : "Actors are there while jobs run."));
  }
  repeat(refresh, 3000, context.signal, error.failed);
}
