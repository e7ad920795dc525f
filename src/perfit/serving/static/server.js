// What the page asks the server; nothing of it goes anywhere else.

function headers() {
  const key = document.getElementById("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

export async function call(method, path, body, signal) {
  const answer = await fetch(path, { method, headers: headers(), signal, body: body && JSON.stringify(body) });
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401) document.getElementById("access").open = true;
    throw new Error(said.error ? said.error.message : `the server says ${answer.status}`);
  }
  return answer;
}

export async function asked(method, path, body, signal) {
  return (await call(method, path, body, signal)).json();
}

// A stream to its end: each piece of text is told to `take`; what is returned is what the server said of the answer.
export async function streamed(path, body, signal, take) {
  const answer = await call("POST", path, { stream: true, ...body }, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let about = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return about;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const part = JSON.parse(data);
      if (part.error) throw new Error(part.error.message);
      for (const choice of part.choices) take(choice.delta ? choice.delta.content || "" : choice.text);
      about = part.perfit || about;
    }
  }
}
