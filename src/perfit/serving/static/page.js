// One prompt, two users and the untouched base. Nothing of what is typed leaves this server, and nothing is kept when the page is closed.
import { markPicked, showMap } from "./map.js";
import { hideMoved, showLabels, showTokens } from "./moved.js";
import { at, made, percent } from "./parts.js";
import { showRead } from "./read.js";
import { asked, streamed } from "./server.js";
import { teaching } from "./teach.js";

const SCORED = { labels: "all labels scored exactly" };
const NOBODY = ["base", "collective"];
let flying = null;
let model = null;

async function begin() {
  try {
    [model] = (await asked("GET", "/v1/models")).data;
    at("model").textContent = model.id;
    at("about").textContent = `task ${model.task.name}${model.task.labels ? `, ${model.task.labels} labels` : ""}`;
    at("way").querySelector("[value=chat]").disabled = !model.chat;
  } catch (fault) {
    at("status").textContent = fault.message;
    return;
  }
  let users = [];
  try {
    users = (await asked("GET", "/v1/users")).data;
    at("status").textContent = "";
  } catch (fault) {
    at("status").textContent = fault.message;
  }
  at("people").replaceChildren(...[...users, "collective"].map((user) => new Option(user, user)));
  if (!at("first").value) at("first").value = users[0] || "collective";
  if (!at("second").value) at("second").value = users[1] || "collective";
  await drawMap();
}

async function drawMap() {
  await showMap((which, user) => {
    at(which).value = user;
    markPicked();
    if (at("answers").childElementCount) ask();
  });
}

function column(user, place) {
  const one = at("column").content.firstElementChild.cloneNode(true);
  one.dataset.place = place;
  one.querySelector("h2").textContent = user;
  at("answers").append(one);
  return one;
}

function noted(place, about) {
  place.querySelectorAll(".tag").forEach((one) => one.remove());
  if (about.user) place.querySelector("h2").append(made("span", "tag", `version ${about.version}, strength ${about.strength}`));
  const note = place.querySelector(".note");
  note.className = "note small";
  const touched = about.edited.reduce((sum, [first, behind]) => sum + behind - first, 0);
  const shortened = about.shortened ? "; the prompt was too long and was shortened" : "";
  note.textContent = `${touched || "none"} of ${about.prompt_tokens} tokens edited; ${SCORED[about.engine] || about.engine}${shortened}`;
  note.title = about.receipt;
}

// What the question is to the server, by the way it is asked.
function questionOf(way, prompt) {
  if (way === "chat") return { messages: [{ role: "user", content: prompt }] };
  return way === "task" ? { input: prompt } : { prompt };
}

async function answer(user, way, question, place, signal) {
  const text = place.querySelector(".answer");
  const body = { user, show_prompt: true, ...question };
  if (way === "task" && model.task.labels) {
    const said = await asked("POST", "/v1/tasks/answer", body, signal);
    const likely = said.labels ? said.labels[0].probability : null;
    text.textContent = said.answer;
    if (likely !== null) text.append(made("span", "likely", percent(likely)));
    if (said.expected) text.append(made("span", "likely", `median ${said.expected.median}, mean ${said.expected.mean.toFixed(2)}`));
    noted(place, said.perfit);
    return { ...said, text: said.answer };
  }
  const path = { task: "/v1/tasks/answer", chat: "/v1/chat/completions", text: "/v1/completions" }[way];
  text.textContent = "";
  const perfit = await streamed(path, way === "text" ? { max_tokens: 64, ...body } : body, signal, (piece) => text.append(piece));
  if (way === "task") text.textContent = text.textContent.trim();
  if (perfit) noted(place, perfit);
  return { perfit, text: text.textContent };
}

function faulted(place, fault) {
  const note = place.querySelector(".note");
  note.textContent = fault.message;
  note.classList.add("fault");
}

async function ask() {
  if (flying) flying.abort();
  flying = new AbortController();
  const { signal } = flying;
  const way = at("way").value;
  const question = questionOf(way, at("prompt").value);
  const people = [["first", at("first").value.trim()], ["second", at("second").value.trim()], ["base", "base"]];
  at("answers").replaceChildren();
  hideMoved();
  at("read").hidden = true;
  at("stop").disabled = false;
  at("status").textContent = "asking …";
  const places = people.map(([place, user]) => column(user, place));
  if (at("answers").getBoundingClientRect().top > window.innerHeight * 0.8) at("answers").scrollIntoView();
  const found = await Promise.all(people.map(async ([, user], number) => {
    const text = places[number].querySelector(".answer");
    text.setAttribute("aria-busy", "true");
    try {
      return await answer(user, way, question, places[number], signal);
    } catch (fault) {
      if (fault.name !== "AbortError") faulted(places[number], fault);
      return null;
    } finally {
      text.setAttribute("aria-busy", "false");
    }
  }));
  if (signal.aborted) return;
  showRead(found);
  at("status").textContent = "comparing …";
  try {
    await compare(people, found, way, question, signal);
    at("status").textContent = "";
  } catch (fault) {
    if (fault.name === "AbortError") return;
    at("status").textContent = fault.message;
  }
  at("stop").disabled = true;
  if (way === "text" || (way === "chat" && !model.task.chat)) return;
  people.forEach(([, user], number) => {
    if (!found[number] || NOBODY.includes(user)) return;
    const again = async () => {
      const before = places[number].querySelector(".before");
      before.textContent = `before: ${found[number].text}`;
      before.hidden = false;
      const now = await answer(user, way, question, places[number], undefined);
      found[number] = now;
      await Promise.all([compare(people, found, way, question, undefined), drawMap()]);
      return now.labels ? `${now.text}, ${percent(now.labels[0].probability)}` : now.text;
    };
    teaching(places[number], user, question, found[number], again);
  });
}

async function compare(people, found, way, question, signal) {
  const named = people.map(([place, who], number) => ({ ...found[number], who, place }));
  if (found.some((one) => one && one.labels)) {
    const all = { user: "collective", ...question };
    const collective = people.slice(0, 2).every(([, who]) => who === "collective") ? [] : [{ ...(await asked("POST", "/v1/tasks/answer", all, signal)), who: "collective", place: "collective" }];
    showLabels([named[2], ...collective, ...named.slice(0, 2).filter((one) => one.who !== "base")]);
    return;
  }
  await showTokens(named.slice(0, 2).filter((one) => one.text && one.text.trim() && one.who !== "base"), question, signal);
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
at("keying").addEventListener("submit", (event) => event.preventDefault());
for (const which of ["first", "second"]) at(which).addEventListener("input", markPicked);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  if (event.key === "Escape" && !at("stop").disabled) stop();
});
begin();
