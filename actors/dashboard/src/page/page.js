// Shows the actors of one node and their mailboxes, asked for anew while somebody looks.

const EVERY_MS = 1000;
// An actor that works on one message for so long is shown as stuck.
const STUCK_NS = 1e9;
// So many waiting messages fill the bar; it is drawn by powers of two.
const FULL = 1 << 16;

const rows = new Map();
let before = null;

function cell(row, className) {
  const td = row.insertCell();
  if (className) td.className = className;
  return td;
}

function addRow(name) {
  const row = document.createElement("tr");
  const link = document.createElement("a");
  link.href = `/debug/actors/${name}/mailbox`;
  link.textContent = name;
  cell(row).append(link);
  const depth = cell(row, "number");
  const meter = document.createElement("meter");
  meter.max = Math.log2(FULL);
  cell(row, "bar").append(meter);
  const parts = {
    row, depth, meter,
    handled: cell(row, "number"),
    rate: cell(row, "number"),
    busy: cell(row),
    restarts: cell(row, "number"),
  };
  document.getElementById("actors").append(row);
  rows.set(name, parts);
  return parts;
}

function show(actors, now) {
  const seconds = before ? (now - before.at) / 1000 : 0;
  for (const actor of actors) {
    const parts = rows.get(actor.name) ?? addRow(actor.name);
    parts.depth.textContent = actor.depth;
    parts.meter.value = Math.min(Math.log2(actor.depth + 1), parts.meter.max);
    parts.handled.textContent = actor.handled;
    const former = before?.handled.get(actor.name);
    const known = former !== undefined && former <= actor.handled && seconds > 0;
    parts.rate.textContent = known ? Math.round((actor.handled - former) / seconds) : "";
    const ms = actor.busy ? Math.round(actor.busy.age_ns / 1e6) : 0;
    parts.busy.textContent = actor.busy ? `${actor.busy.kind}, ${ms} ms` : "";
    parts.busy.className = actor.busy && actor.busy.age_ns > STUCK_NS ? "stuck" : "";
    parts.restarts.textContent = actor.restarts;
    parts.restarts.title = actor.last_panic ? actor.last_panic.message : "";
  }
  before = { at: now, handled: new Map(actors.map((actor) => [actor.name, actor.handled])) };
}

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(5000) });
  return { ok: response.ok, body: await response.json() };
}

function describe({ ok, body }) {
  if (!ok) return body.error;
  const leader = body.leader === null ? "no leader known" : `node ${body.leader} leads`;
  const ready = body.ready ? "" : "recovering, ";
  return `${ready}${leader}, ${body.applied} applied, ${body.waiting} waiting`;
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const [actors, status] = await Promise.all([ask("/debug/actors"), ask("/debug/status")]);
    show(actors.body, performance.now());
    state.textContent = describe(status);
    state.className = status.ok ? "" : "stuck";
    if (status.ok) document.getElementById("node").textContent = `node ${status.body.node}`;
  } catch (error) {
    state.textContent = `the node does not answer (${error.message}); is its process running?`;
    state.className = "stuck";
  }
}

async function forever() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((wake) => setTimeout(wake, EVERY_MS));
  }
}

forever();
