// Files and pictures from the phone to the computer, by tus: they go on after a broken line or a closed page.
"use strict";
const CHUNK_BYTES = 8 * 1024 * 1024;  // after each the computer says that it is on its disk
const RETRY_MS = [0, 1000, 3000, 5000, 10000, 20000, 30000, 60000];
const BATCH = "coterie-batch";  // of an upload that has not finished, in localStorage
const form = document.getElementById("upload");  // not there for who may neither keep nor send anything here
const list = document.getElementById("upload-files");
const told = document.getElementById("upload-status");
const said = form ? form.dataset : {};
const chosen = [];  // {file, key: in KeptFiles or undefined, row}
let running = false;

function batch() {
  let found = localStorage.getItem(BATCH);
  if (!found) {
    const raw = crypto.getRandomValues(new Uint8Array(16));
    found = Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem(BATCH, found);
  }
  return found;
}

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  const bar = document.createElement("progress");
  name.textContent = file.name;
  bar.max = file.size || 1;
  bar.value = 0;
  bar.setAttribute("aria-label", file.name);
  item.append(name, bar);
  list.append(item);
  return { item, bar };
}

function add(file, key) {
  chosen.push({ file, key, ...row(file) });
  form.querySelector("button[type=submit]").disabled = false;
}

function one(entry) {
  return new Promise((resolve, reject) => {
    const { file, bar } = entry;
    const upload = new tus.Upload(file, {
      endpoint: "/up/files",
      chunkSize: CHUNK_BYTES,
      retryDelays: RETRY_MS,
      metadata: { filename: file.name, filetype: file.type, batch: batch() },
      fingerprint: async () => ["coterie", batch(), file.name, file.size, file.lastModified].join("-"),
      removeFingerprintOnSuccess: false,
      onShouldRetry: (error) => {
        const code = error.originalResponse ? error.originalResponse.getStatus() : 0;
        return code === 0 || code === 409 || code === 503;
      },
      onProgress: (sent) => { bar.value = sent; },
      onSuccess: () => { bar.value = bar.max; resolve(upload.url); },
      onError: (error) => reject(new Error(answer(error))),
    });
    upload.findPreviousUploads().then((earlier) => {
      if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
      upload.start();
    }, reject);
  });
}

function answer(error) {
  const response = error.originalResponse;
  return response && response.getBody() ? response.getBody().trim() : said.broken;
}

function forget() {
  const prefix = `tus::coterie-${localStorage.getItem(BATCH)}`;
  for (const key of Object.keys(localStorage)) if (key.startsWith(prefix)) localStorage.removeItem(key);
  localStorage.removeItem(BATCH);
}

async function finish() {
  const to = form.elements.to.value;
  const response = await fetch("/up/finish", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ batch: batch(), to }),
  });
  const body = await response.json();
  if (!response.ok) {
    if (response.status === 404) forget();
    throw new Error(body.error.message);
  }
  return body.said;
}

async function run(event) {
  event.preventDefault();
  if (running || !chosen.length) return;
  running = true;
  form.querySelector("button[type=submit]").disabled = true;
  told.textContent = said.running;
  let awake = null;
  try {
    awake = navigator.wakeLock ? await navigator.wakeLock.request("screen").catch(() => null) : null;
    for (const entry of chosen) await one(entry);
    told.textContent = await finish();
    forget();
    for (const { key, item } of chosen) {
      if (key !== undefined) await KeptFiles.remove(key);
      item.remove();
    }
    chosen.length = 0;
    form.reset();
  } catch (error) {
    told.textContent = `${error.message} ${said.again}`;
    form.querySelector("button[type=submit]").disabled = false;
  } finally {
    running = false;
    if (awake) awake.release();
  }
}

if (form) {
  form.addEventListener("submit", run);
  for (const input of form.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      for (const file of input.files) add(file);
      input.value = "";
    });
  }
  (async () => {
    const kept = "indexedDB" in window ? await KeptFiles.all().catch(() => []) : [];
    for (const { key, file } of kept) add(file, key);
    if (location.search === "?full") told.textContent = said.full;
    else if (localStorage.getItem(BATCH)) told.textContent = kept.length ? said.goon : said.choose;
  })();
}
