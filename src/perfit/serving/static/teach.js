// An answer put right: kept, learnt, put live or kept back, and asked again.
import { made } from "./parts.js";
import { asked } from "./server.js";

const LOOK_MS = 700;

function step(list, text, className) {
  const one = made("li", className, text);
  list.append(one);
  return one;
}

async function learnt(path, said) {
  for (let seconds = 0; ; seconds += LOOK_MS / 1000) {
    const job = await asked("GET", `${path}/personalize`);
    if (job.state !== "queued" && job.state !== "running") return job;
    said.textContent = `${job.state === "queued" ? "waiting for the worker" : "training"} … ${Math.round(seconds)} s`;
    await new Promise((wake) => setTimeout(wake, LOOK_MS));
  }
}

function outcome(job) {
  const { version, loss_before: before, loss_after: after, problem } = job.result;
  if (problem) return `${job.state}: ${problem}`;
  const judged = before === undefined ? "nothing was held out to judge it by" : `loss on held-out items ${before} → ${after}`;
  return `live: version ${version}; ${judged}`;
}

// `question` is what was asked and `about` what came of it; `again` asks it once more and says how the answer now reads.
export function teaching(place, user, question, about, again) {
  const form = place.querySelector("form");
  const list = form.querySelector(".steps");
  const back = form.querySelector(".back");
  const path = `/v1/users/${encodeURIComponent(user)}`;
  const right = form.querySelector(".right");
  if (about.labels) {
    const choices = made("datalist");
    choices.id = `labels-${place.dataset.place}`;
    choices.append(...about.labels.map((one) => new Option(one.label, one.label)));
    form.append(choices);
    right.setAttribute("list", choices.id);
  }
  form.hidden = false;
  const busy = (on) => form.querySelectorAll("button").forEach((one) => { one.disabled = on; });
  const doing = async (act) => {
    list.replaceChildren();
    busy(true);
    try {
      await act();
    } catch (fault) {
      step(list, fault.message, "bad");
    } finally {
      busy(false);
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    doing(async () => {
      const answer = about.text.trim();
      const told = { ...question, verdict: "edited", text: right.value, ...(answer ? { answer } : {}) };
      const kept = await asked("POST", `${path}/feedback`, told);
      step(list, `kept: ${kept.items} ${kept.items === 1 ? "item" : "items"} to learn from, ${kept.held_out} held out`);
      await asked("POST", `${path}/personalize`, {});
      const training = step(list, "waiting for the worker …");
      const job = await learnt(path, training);
      training.textContent = outcome(job);
      training.className = job.state === "live" ? "good" : "bad";
      if (job.state !== "live") return;
      step(list, `asked again: ${await again()}`, "good");
      back.hidden = !about.perfit.version;
    });
  });
  back.addEventListener("click", () => doing(async () => {
    await asked("POST", `${path}/rollback`, { version: about.perfit.version });
    step(list, `version ${about.perfit.version} is live again: ${await again()}`);
    back.hidden = true;
  }));
}
