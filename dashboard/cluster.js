// The cluster: what there is, who has it, and what happened lately.
import {get, post, repeat, part} from "/assets/api.js";
import {errorPlace} from "/assets/app.js";
import {amount, bytes, count, moment, percent, whole, words} from "/assets/format.js";
import {bar, card, confirm, empty, h, show, state, table} from "/assets/view.js";

const zero = {cpus: 0, gpus: 0, memory_bytes: 0};

function tile(name) {
  const value = h("dd", null, "–");
  return {element: h("div", {class: "tile"}, h("dt", null, name), value), set: (big, small) => show(value, big, h("small", null, small))};
}

// "3 of 8" with a bar.
function used(total, free, text = amount) {
  if (!total) return h("span", {class: "muted"}, "none");
  const taken = total - free, label = `${text(taken)} of ${text(total)} used`;
  return h("span", {class: "amount"}, h("span", {class: "small num"}, `${text(taken)} / ${text(total)}`), bar(taken / total, label));
}

function nodeTable(context, again) {
  const drain = async (node) => {
    const on = !node.draining;
    const yes = await confirm(on ? `Drain ${node.node}?` : `Let ${node.node} take work again?`,
      on ? "Nothing new is placed there, and what runs there moves away, with checkpoints." : "Jobs are placed there again.", on ? "Drain" : "Take work");
    if (yes) again(() => post(`/nodes/${part(node.node)}/drain`, {drain: on, reason: on ? "from the dashboard" : ""}));
  };
  return table([
    {name: "Node", head: true, cell: (n) => n.node},
    {name: "State", cell: (n) => state(n.draining ? "draining" : n.state, n.draining && n.drain_reason ? `draining: ${n.drain_reason}` : undefined)},
    {name: "GPUs", cell: (n) => used(n.total?.gpus, n.free?.gpus ?? 0)},
    {name: "CPUs", cell: (n) => used(n.total?.cpus, n.free?.cpus ?? 0)},
    {name: "Memory", cell: (n) => used(n.total?.memory_bytes, n.free?.memory_bytes ?? 0, bytes)},
    {name: "Processes", num: true, cell: (n) => whole(n.roles)},
    {name: "Labels and taints", cell: (n) => n.labels.length + n.taints.length > 0 && h("span", {class: "small muted"}, [...n.labels, ...n.taints.map((t) => `taint ${t}`)].join(", "))},
    {name: "", cell: (n) => context.me.role === "admin" && h("button", {class: "quiet", type: "button", "aria-label": `${n.draining ? "Undo the drain of" : "Drain"} ${n.node}`, onclick: () => drain(n)}, n.draining ? "Undo drain" : "Drain")},
  ], {caption: "Nodes"});
}

function queueTable() {
  const three = (r) => r && [r.gpus && count(r.gpus, "GPU"), r.cpus && count(r.cpus, "CPU"), r.memory_bytes && bytes(r.memory_bytes)].filter(Boolean).join(", ");
  return table([
    {name: "Queue", head: true, cell: (q) => q.queue},
    {name: "Share", cell: (q) => h("span", {class: "amount"}, h("span", {class: "small num"}, `${percent(q.share)} of ${percent(q.fair_share)}`),
      bar(q.share, `has ${percent(q.share)}, its due is ${percent(q.fair_share)}`, {over: q.share > q.fair_share + .005, mark: q.fair_share}))},
    {name: "Used", cell: (q) => three(q.used) || h("span", {class: "muted"}, "nothing")},
    {name: "Guaranteed", cell: (q) => three(q.guaranteed) || "–"},
    {name: "Borrowed", cell: (q) => three(q.borrowed) || "–"},
    {name: "Running", num: true, cell: (q) => whole(q.running)},
    {name: "Waiting", num: true, cell: (q) => whole(q.pending)},
  ], {caption: "Queues"});
}

export function eventItem(event) {
  const kind = {warning: "warn", error: "bad"}[event.severity] ?? "";
  return h("li", null, h("time", {datetime: new Date(event.unix_ms).toISOString()}, moment(event.unix_ms)),
    h("p", null, h("span", {class: `state ${kind}`}, kind && h("span", {class: "dot", "aria-hidden": "true"}), h("span", {class: "word"}, words(event.kind))), " ",
      event.job && [h("a", {href: `#/jobs/${encodeURIComponent(event.job)}`}, event.job), " "], h("span", null, event.message)));
}

export function clusterPage(context) {
  const error = errorPlace();
  const tiles = {nodes: tile("Nodes"), gpus: tile("GPUs in use"), cpus: tile("CPUs in use"), memory: tile("Memory in use"), running: tile("Jobs running"), waiting: tile("Jobs waiting")};
  const nodesPlace = h("div"), queuesPlace = h("div");
  const events = h("ul", {class: "events", tabindex: "0", "aria-label": "Latest events"});
  const again = async (work) => {
    try {
      await work();
      await refresh();
    } catch (problem) {
      error.failed(problem);
    }
  };
  const nodes = nodeTable(context, again), queues = queueTable();
  show(context.place, h("div", {class: "head"}, h("h1", null, "Cluster")), error.element,
    h("dl", {class: "tiles"}, Object.values(tiles).map((t) => t.element)),
    card("Nodes", null, nodesPlace), card("Queues", h("span", {class: "small muted"}, "The line in a bar is the queue's fair share"), queuesPlace), card("Latest events", null, events));
  show(nodesPlace, empty("Loading"));
  show(queuesPlace, empty("Loading"));
  show(events, h("li", null, h("span", {class: "muted"}, "Loading")));

  async function refresh() {
    const [list, open] = await Promise.all([get("/nodes", context.signal), get("/jobs?state=open&limit=200", context.signal)]);
    const all = (key, what) => list.nodes.reduce((sum, n) => sum + ((n[what] ?? zero)[key] || 0), 0);
    const draining = list.nodes.filter((n) => n.draining || n.state !== "healthy").length;
    tiles.nodes.set(whole(list.nodes.length), draining ? `${whole(draining)} not taking work` : "all take work");
    for (const [key, name, text] of [["gpus", "gpus", amount], ["cpus", "cpus", amount], ["memory_bytes", "memory", bytes]])
      tiles[name].set(text(all(key, "total") - all(key, "free")), `of ${text(all(key, "total"))}`);
    const waiting = open.jobs.filter((j) => j.state === "pending").length;
    tiles.running.set(whole(open.total - waiting), "starting and stopping included");
    tiles.waiting.set(whole(waiting), waiting ? "their reasons are under Jobs" : "nothing has to wait");
    nodes.update(list.nodes, (n) => n.node);
    show(nodesPlace, list.nodes.length ? nodes.element : empty("No node has joined.", "Start one: crabcast agent --join HOST:PORT"));
    const shares = await get("/queues", context.signal);
    queues.update(shares.queues, (q) => q.queue);
    show(queuesPlace, queues.element);
  }

  async function firstEvents() {
    const end = await get("/jobs?limit=8", context.signal);
    const lists = await Promise.all(end.jobs.map((job) => get(`/jobs/${encodeURIComponent(job.job)}/events?limit=1000`, context.signal)));
    const latest = lists.flatMap((page) => page.events).sort((a, b) => b.seq - a.seq).slice(0, 30);
    show(events, latest.length ? latest.map(eventItem) : h("li", null, h("span", {class: "muted"}, "Nothing has happened yet.")));
    let fresh = latest.length === 0;
    context.onEvent((event) => {
      if (fresh) show(events);
      fresh = false;
      events.prepend(eventItem(event));
      while (events.children.length > 60) events.lastChild.remove();
    });
  }
  firstEvents().catch((problem) => problem.name !== "AbortError" && error.failed(problem));
  repeat(refresh, 3000, context.signal, error.failed);
}

