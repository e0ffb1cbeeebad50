// Files and folders from the desktop, dropped on [data-drop="send:NAME" or "share:ID"]: uploaded by tus, then sent or put there.
// The same files dropped on the same name again go on where they stopped.
"use strict";
(() => {
  const CHUNK_BYTES = 8 * 1024 * 1024, RETRY_MS = [0, 1000, 3000, 5000, 10000, 20000, 30000], STAYS_MS = 8000;
  const TUS = document.currentScript.src.replace("drop.js", "vendor/tus.min.js");
  const row = (event) => event.target.closest?.("li, .card");
  const targetOf = (event) => row(event)?.querySelector("[data-drop]");
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");

  async function filesIn(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
    const plain = [...transfer.files], found = [];
    const once = (ask) => new Promise(ask);
    async function walk(entry, above) {
      if (entry.isFile) {
        found.push({ file: await once((yes, no) => entry.file(yes, no)), path: above + entry.name });
        return;
      }
      const reader = entry.createReader();
      for (let some; (some = await once((yes, no) => reader.readEntries(yes, no))).length;)
        for (const one of some) await walk(one, `${above}${entry.name}/`);
    }
    for (const entry of entries) await walk(entry, "");
    return found.length ? found : plain.map((file) => ({ file, path: file.name }));
  }

  async function batchOf(to, files) {
    const said = JSON.stringify([to, files.map(({ file, path }) => [path, file.size, file.lastModified])]);
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(said));
    return [...new Uint8Array(digest).slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  let loaded = null;  // what uploads by tus: fetched with the first drop
  const loadTus = () => loaded ||= new Promise((yes, no) => {
    const script = document.createElement("script");
    script.src = TUS;
    script.onload = yes;
    script.onerror = () => { loaded = null; no(new Error(document.getElementById("stopped").textContent.trim())); };
    document.head.append(script);
  });

  function upload({ file, path }, batch, shown, running) {
    return new Promise((yes, no) => {
      const one = new tus.Upload(file, {
        endpoint: "/up/files", chunkSize: CHUNK_BYTES, retryDelays: RETRY_MS, removeFingerprintOnSuccess: false,
        metadata: { filename: file.name, relativePath: path, filetype: file.type, batch },
        fingerprint: async () => ["coterie-drop", batch, path, file.size].join("-"),
        onShouldRetry: (error) => [0, 409, 503].includes(error.originalResponse ? error.originalResponse.getStatus() : 0),
        onProgress: (sent) => { shown.bar.value = shown.before + sent; },
        onSuccess: yes,
        onError: (error) => no(new Error(error.originalResponse?.getBody()?.trim() || String(error.message))),
      });
      running.stop = () => one.abort().finally(() => no(null));
      one.findPreviousUploads().then((earlier) => {
        if (earlier.length) one.resumeFromPreviousUpload(earlier[0]);
        one.start();
      }, no);
    });
  }

  function show(text, size, running) {
    const box = document.createElement("div"), line = document.createElement("p"), bar = document.createElement("progress");
    const stop = document.createElement("button");
    box.className = "toast drop-status";
    box.setAttribute("role", "status");
    line.textContent = text;
    bar.max = size || 1;
    bar.value = 0;
    bar.setAttribute("aria-label", text);
    stop.type = "button";
    stop.className = "button";
    stop.textContent = document.body.dataset.stop;
    stop.onclick = () => running.stop?.();
    box.append(line, bar, stop);
    document.body.append(box);
    return { box, line, bar, stop, before: 0 };
  }

  async function take(target, transfer) {
    const { drop: to, dropSaid: said } = target.dataset;
    const files = await filesIn(transfer);
    if (!files.length) return;
    const running = {}, shown = show(said, files.reduce((sum, { file }) => sum + file.size, 0), running);
    try {
      const [batch] = await Promise.all([batchOf(to, files), loadTus()]);
      for (const one of files) {
        await upload(one, batch, shown, running);
        shown.before += one.file.size;
      }
      const answer = await fetch("/up/finish", {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ batch, to }),
      });
      const body = await answer.json();
      shown.line.textContent = answer.ok ? body.said : body.error.message;
      if (answer.ok) for (const key of Object.keys(localStorage)) if (key.includes(`coterie-drop-${batch}`)) localStorage.removeItem(key);
    } catch (error) {
      shown.line.textContent = error ? error.message : document.body.dataset.stopped;
    }
    shown.bar.remove();
    shown.stop.remove();
    setTimeout(() => shown.box.remove(), STAYS_MS);
  }

  const unmark = () => document.querySelectorAll(".dropping").forEach((one) => one.classList.remove("dropping"));
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();  // nowhere on the page does a dropped file replace the page
    unmark();
    if (targetOf(event)) row(event).classList.add("dropping");
    event.dataTransfer.dropEffect = targetOf(event) ? "copy" : "none";
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) unmark(); });
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    unmark();
    const target = targetOf(event);
    if (target) take(target, event.dataTransfer);
  });
})();
