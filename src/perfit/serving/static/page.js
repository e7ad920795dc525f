"use strict";

// Nothing of what is typed leaves this server, and nothing is kept when the page is closed.
const at = (id) => document.getElementById(id);
const SHOWN = 6;
let flying = null;

function headers() {
  const key = at("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function call(method, path, body, signal) {
  const answer = await fetch(path, { method, headers: headers(), signal, body: body && JSON.stringify(body) });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401) at("access").open = true;
    throw new Error(said.error ? said.error.message : `the server says ${answer.status}`);
  }
  return answer;
}

async function begin() {
  try {
    const model = (await (await call("GET", "/v1/models")).json()).data[0];
    at("model").textContent = `${model.id}, task ${model.task.name}`;
    at("way").querySelector("[value=chat]").disabled = !model.chat;
    const users = (await (await call("GET", "/v1/users")).json()).data;
    at("people").replaceChildren(...[...users, "collective"].map((user) => new Option(user, user)));
    if (!at("first").value) at("first").value = users[0] || "collective";
    if (!at("second").value) at("second").value = users[1] || "collective";
    at("status").textContent = "";
  } catch (fault) {
    at("status").textContent = fault.message;
  }
}

function column(user) {
  const made = at("column").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = user;
  at("answers").append(made);
  return made;
}

function noted(place, perfit) {
  const spans = perfit.edited.map(([first, behind]) => (behind - first > 1 ? `${first}–${behind - 1}` : `${first}`));
  const edits = spans.length ? `tokens ${spans.join(", ")} of ${perfit.prompt_tokens} edited` : `none of ${perfit.prompt_tokens} tokens edited`;
  const own = perfit.user ? `, version ${perfit.version}, strength ${perfit.strength}` : "";
  place.querySelector(".note").textContent = `${edits}${own}, ${perfit.engine}`;
  place.querySelector(".note").title = perfit.receipt;
}

function labelled(place, labels, base) {
  const before = new Map((base || []).map((one) => [one.label, one.probability]));
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const moved = (one) => (before.has(one.label) ? one.probability - before.get(one.label) : 0);
  const most = [...labels].sort((a, b) => Math.abs(moved(b)) - Math.abs(moved(a))).slice(0, SHOWN);
  const chosen = new Set([...labels.slice(0, SHOWN), ...most].map((one) => one.label));
  const rows = labels.filter((one) => chosen.has(one.label)).map((one) => {
    const row = document.createElement("tr");
    const name = document.createElement("td");
    name.textContent = one.label;
    const share = document.createElement("td");
    const meter = document.createElement("meter");
    meter.value = one.probability;
    meter.setAttribute("aria-hidden", "true");
    share.append(meter, percent(one.probability));
    const far = document.createElement("td");
    const by = moved(one);
    far.textContent = before.size ? `${by >= 0 ? "+" : "−"}${percent(Math.abs(by))}` : "";
    far.className = by > 0.0005 ? "up" : by < -0.0005 ? "down" : "";
    row.append(name, share, far);
    return row;
  });
  place.querySelector("tbody").replaceChildren(...rows);
  place.querySelector("table").hidden = false;
}

async function byTask(user, input, place, signal) {
  const said = await (await call("POST", "/v1/tasks/answer", { user, input }, signal)).json();
  place.querySelector(".answer").textContent = said.answer;
  noted(place, said.perfit);
  return said;
}

async function streamed(user, body, path, place, signal) {
  const answer = await call("POST", path, { user, stream: true, ...body }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const part = JSON.parse(data);
      if (part.error) throw new Error(part.error.message);
      for (const choice of part.choices) {
        place.querySelector(".answer").append(choice.delta ? choice.delta.content || "" : choice.text);
      }
      if (part.perfit) noted(place, part.perfit);
    }
  }
  return {};
}

function teaching(place, user, input) {
  const form = place.querySelector("form");
  const status = form.querySelector(".taught");
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const path = `/v1/users/${encodeURIComponent(user)}`;
    try {
      const text = form.querySelector(".right").value;
      const answer = place.querySelector(".answer").textContent.trim();
      const kept = await (await call("POST", `${path}/feedback`, { input, verdict: "edited", text, ...(answer ? { answer } : {}) })).json();
      status.textContent = `kept (${kept.items} items); training …`;
      await call("POST", `${path}/personalize`, {});
      for (;;) {
        await new Promise((wake) => setTimeout(wake, 1000));
        const job = await (await call("GET", `${path}/personalize`)).json();
        if (job.state === "queued" || job.state === "running") continue;
        status.textContent = job.result.problem ? `${job.state}: ${job.result.problem}` : `${job.state}: version ${job.result.version}; ask again`;
        return;
      }
    } catch (fault) {
      status.textContent = fault.message;
    }
  });
}

async function ask() {
  if (flying) flying.abort();
  flying = new AbortController();
  const { signal } = flying;
  const way = at("way").value;
  const prompt = at("prompt").value;
  const users = [at("first").value.trim(), at("second").value.trim(), "base"];
  at("answers").replaceChildren();
  at("stop").disabled = false;
  at("status").textContent = "asking …";
  const places = users.map(column);
  const said = await Promise.all(users.map(async (user, number) => {
    const place = places[number];
    const text = place.querySelector(".answer");
    text.setAttribute("aria-busy", "true");
    try {
      if (way === "task") return await byTask(user, prompt, place, signal);
      if (way === "chat") return await streamed(user, { messages: [{ role: "user", content: prompt }] }, "/v1/chat/completions", place, signal);
      return await streamed(user, { prompt, max_tokens: 64 }, "/v1/completions", place, signal);
    } catch (fault) {
      if (fault.name !== "AbortError") {
        place.querySelector(".note").textContent = fault.message;
        place.querySelector(".note").classList.add("fault");
      }
      return {};
    } finally {
      text.setAttribute("aria-busy", "false");
    }
  }));
  if (signal.aborted) return;
  said.forEach((one, number) => {
    if (one.labels) labelled(places[number], one.labels, number < 2 ? said[2].labels : null);
    if (way === "task" && !["base", "collective"].includes(users[number])) teaching(places[number], users[number], prompt);
  });
  at("stop").disabled = true;
  at("status").textContent = "";
}

function stop() {
  if (flying) flying.abort();
  at("stop").disabled = true;
  at("status").textContent = "stopped";
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("stop").addEventListener("click", stop);
at("key").addEventListener("change", begin);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  if (event.key === "Escape" && !at("stop").disabled) stop();
});
begin();
