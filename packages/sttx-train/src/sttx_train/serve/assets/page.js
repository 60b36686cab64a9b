"use strict";
const at = (id) => document.getElementById(id);
const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
let messages = [], running = null;

function headers() {
  const key = at("key");
  return Object.assign({ "content-type": "application/json" }, key && key.value ? { authorization: "Bearer " + key.value } : {});
}

function turn(who) {
  const box = document.createElement("div"), name = document.createElement("b"), text = document.createElement("span");
  box.className = "turn";
  name.textContent = who;
  box.append(name, text);
  at("log").append(box);
  return { box, name, text, bits: 0, word: null, wordBits: 0 };
}

// A word is what stands between white space; its shade is the sum of what its tokens cost.
function add(place, text, bits) {
  place.bits += bits;
  for (const part of text.split(/(?<=\s)(?=\S)/)) {
    if (place.word === null || /\s$/.test(place.word.textContent)) {
      place.word = document.createElement("i");
      place.wordBits = 0;
      place.text.append(place.word);
    }
    place.word.append(part.replace(hidden, "\ufffd"));
    place.wordBits += bits;
    bits = 0;
    place.word.className = "l" + Math.min(6, Math.floor(place.wordBits / 2));
    place.word.title = place.wordBits.toFixed(1) + " bits";
  }
}

function remark(place, text) {
  const small = document.createElement("small");
  small.textContent = text;
  place.name.append(small);
}

async function failure(response) {
  let text = "status " + response.status;
  try { text = (await response.json()).error.message; } catch (error) { /* not ours: the status says it */ }
  return new Error(text);
}

// What the person said, with what each token cost.
async function price(place, text) {
  const body = JSON.stringify({ model: chosen(), input: "User: " + text });
  const response = await fetch("v1/score", { method: "POST", headers: headers(), body });
  if (!response.ok) throw await failure(response);
  const entry = (await response.json()).data[0];
  let left = "User: ".length;
  place.text.textContent = "";
  for (const token of entry.tokens) {
    if (token.text.startsWith("bytes:")) { place.text.textContent = text; return; }
    const cut = token.text.slice(Math.min(left, token.text.length));
    left -= Math.min(left, token.text.length);
    if (cut) add(place, cut, token.bits);
  }
  remark(place, place.bits.toFixed(0) + " bits");
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (held + value).split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") yield JSON.parse(part.slice(6));
    }
  }
}

async function answer(place) {
  const body = JSON.stringify({ model: chosen(), messages, stream: true, logprobs: true });
  const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body, signal: running.signal });
  if (!response.ok) throw await failure(response);
  const decoder = new TextDecoder(), began = performance.now();
  let said = "", tokens = 0, pieces = [], shown = 0;
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const choice = event.choices[0];
    if (!choice) continue;
    said += choice.delta.content || "";
    for (const token of choice.logprobs.content) {
      tokens += 1;
      pieces.push([decoder.decode(new Uint8Array(token.bytes), { stream: true }), -token.logprob / Math.LN2]);
    }
    while (pieces.length && shown < said.length) {
      let [text, bits] = pieces.shift();
      if (!shown) text = text.trimStart();
      text = text.slice(0, said.length - shown);
      shown += text.length;
      add(place, text, bits);
    }
    at("speed").textContent = (1000 * tokens / Math.max(1, performance.now() - began)).toFixed(1) + " tokens/s";
  }
  remark(place, place.bits.toFixed(0) + " bits");
  return said;
}

async function say(text) {
  running = new AbortController();
  at("send").disabled = true;
  at("stop").disabled = false;
  const mine = turn("You");
  mine.text.textContent = text.replace(hidden, "\ufffd");
  messages.push({ role: "user", content: text });
  let theirs = null;
  try {
    await price(mine, text);
    theirs = turn(at("model").value);
    messages.push({ role: "assistant", content: (await answer(theirs)) || " " });
    if (!messages[messages.length - 1].content.trim()) messages.pop();
  } catch (error) {
    const place = theirs || mine;
    remark(place, error.name === "AbortError" ? "stopped" : error.message);
    if (error.name !== "AbortError") place.box.classList.add("failed");
    if (theirs && theirs.text.textContent.trim()) messages.push({ role: "assistant", content: theirs.text.textContent });
  }
  running = null;
  at("send").disabled = false;
  at("stop").disabled = true;
  window.scrollTo(0, document.body.scrollHeight);
}

const nameOf = (id) => id.split("@")[0];

// A run that goes on changes its digest, so its name is asked for while only one model has it.
function chosen() {
  const id = at("model").value, name = nameOf(id);
  return [...at("model").options].filter((one) => nameOf(one.value) === name).length > 1 ? id : name;
}

// Filled here if the page came before the models, or needs a key to ask for them, and when a run has learned more.
async function models() {
  const key = at("key"), list = at("model");
  if (key && !key.value) return;
  const response = await fetch("v1/models", { headers: headers() });
  if (!response.ok) return;
  const ids = (await response.json()).data.map((model) => model.id);
  if (ids.join() === [...list.options].map((one) => one.value).join()) return;
  const before = list.value;
  list.replaceChildren(...ids.map((id) => new Option(id)));
  list.value = ids.find((id) => id === before) || ids.find((id) => nameOf(id) === nameOf(before)) || ids[0];
}

async function health() {
  let state = "gone";
  try {
    const response = await fetch("health");
    state = response.ok ? "ok" : "loading";
    if (response.ok) await models();
  } catch (error) { /* the server is gone, which is what is shown */ }
  at("health").className = state;
  at("health").textContent = { ok: "ready", loading: "loading", gone: "no answer" }[state];
}

at("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value.trim();
  if (!text || running) return;
  at("text").value = "";
  say(text);
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); at("say").requestSubmit(); }
});
at("stop").addEventListener("click", () => running && running.abort());
at("reset").addEventListener("click", () => {
  if (running) running.abort();
  messages = [];
  for (const box of document.querySelectorAll(".turn")) box.remove();
});
if (at("key")) at("key").addEventListener("change", models);
setInterval(health, 5000);
health();
