// The page's own script: rows that stay true, times in words, and small things that HTML alone cannot do.
// Views may use `window.coterie`: { language, onRows(name, callback), refreshTimes(root), toast(text, isBad) }.
"use strict";
(() => {
  const RECONNECT_MIN_MS = 250, RECONNECT_MAX_MS = 3000, TOAST_MS = 6000, UNDO_MS = 10000, OVERSCAN_ROWS = 20, ROW_PX = 56;
  const said = document.documentElement.lang || "en";  // of the texts; numbers and times in the form of the reader's own country
  const language = (navigator.languages || []).find((one) => one.split("-")[0] === said) || said;

  // ---- times: <time datetime="ISO" data-time="ago|exact">
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];
  function inWords(then) {
    const ahead = (then - Date.now()) / 1000;
    for (const [unit, seconds] of STEPS)
      if (Math.abs(ahead) >= seconds) return relative.format(Math.trunc(ahead / seconds), unit);
    return relative.format(0, "second");
  }
  function refreshTimes(root = document) {
    for (const time of root.querySelectorAll("time[data-time]")) {
      const then = Date.parse(time.dateTime);
      if (Number.isNaN(then)) continue;
      const text = time.dataset.time === "exact" || Date.now() - then > 60 * 86400e3 ? exact.format(then) : inWords(then);
      if (time.textContent !== text) time.textContent = text;
      if (!time.title) time.title = exact.format(then);
    }
  }

  // ---- rows that stay true: one socket for the page
  const lists = new Map();  // number -> what is watched
  const watchers = new Map();  // name of rows -> callbacks
  let socket = null, wait = RECONNECT_MIN_MS, next = 1, version = null;

  function send(message) {
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }
  function watch(element) {
    const list = { id: next++, element, name: element.dataset.live, args: JSON.parse(element.dataset.args || "{}"),
                   start: 0, count: 50, total: Number(element.dataset.total || 0), order: null };
    element.liveNumber = list.id;
    lists.set(list.id, list);
    if ("window" in element.dataset) scrolls(list);
    ask(list);
  }
  function ask(list) {
    send({ do: "watch", id: list.id, live: list.name, args: list.args, start: list.start, count: list.count });
  }
  function scan() {
    for (const [id, list] of lists)
      if (!list.element.isConnected) { lists.delete(id); send({ do: "unwatch", id }); }
    for (const element of document.querySelectorAll("[data-live]"))
      if (!element.liveNumber) watch(element);
    if (!socket) connect();
  }
  function connect() {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.onopen = () => {
      wait = RECONNECT_MIN_MS;
      document.getElementById("stopped").hidden = true;
      for (const list of lists.values()) ask(list);
      send({ do: "pause", is_paused: document.hidden });
    };
    socket.onmessage = (event) => take(JSON.parse(event.data));
    socket.onclose = () => {
      socket = null;
      if (wait >= 4 * RECONNECT_MIN_MS) document.getElementById("stopped").hidden = false;
      setTimeout(() => { if (!socket) connect(); }, wait);
      wait = Math.min(2 * wait, RECONNECT_MAX_MS);
    };
  }
  function take(message) {
    if ("hello" in message) {
      if (version && version !== message.version) location.reload();
      version = message.version;
      return;
    }
    const list = lists.get(message.id);
    if (!list || !list.element.isConnected) return;
    apply(list, message);
    for (const callback of watchers.get(list.name) || []) callback(list.element, message);
  }
  function apply(list, message) {
    const { element } = list, present = new Map();
    for (const row of element.children) if (row.dataset.key !== undefined) present.set(row.dataset.key, row);
    for (const [key, html] of Object.entries(message.rows || {})) {
      const made = parsed(html), old = present.get(key);
      if (old) Idiomorph.morph(old, made, { morphStyle: "outerHTML", ignoreActiveValue: isTyping(), callbacks: { beforeNodeMorphed: mayChange } });
      else {
        present.set(key, made);
        if ("said" in element.dataset && list.order) say(made.textContent);
      }
      const row = present.get(key);
      if (!old && window.htmx) htmx.process(row);
    }
    if (message.order) {
      const wanted = new Set(message.order);
      for (const [key, row] of present) if (!wanted.has(key)) row.remove();
      let before = element.firstElementChild;
      while (before && before.classList.contains("spacer")) before = before.nextElementSibling;
      for (const key of message.order) {
        const row = present.get(key);
        if (!row) continue;
        if (row === before) before = before.nextElementSibling;
        else element.insertBefore(row, before && !before.classList.contains("spacer-end") ? before : element.querySelector(":scope > .spacer-end"));
      }
      list.order = message.order;
    }
    for (const doing of waiting) if (doing.list === element) dim(doing, true);
    list.order ||= [];
    list.total = message.total;
    element.dataset.total = message.total;
    if (!list.space && list.total > list.order.length) {
      scrolls(list);
      send({ do: "window", id: list.id, start: list.start, count: list.count });
    }
    if (list.space) list.space(message.start);
    refreshTimes(element);
    if (window.htmx && message.rows) htmx.process(element);
  }
  function say(text) {
    document.getElementById("spoken").textContent = text.replace(/\s+/g, " ").trim();
  }
  function mayChange(old) {  // data-keep: what the page itself asked for stays when its row changes
    return !(old instanceof Element && old.hasAttribute("data-keep"));
  }
  function isTyping() {  // what somebody types stays; a button that has the focus changes like everything else
    return /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName || "");
  }
  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }
  // A long list has only the rows near the screen; data-window="ROW HEIGHT IN PIXELS" where all are of one height.
  function scrolls(list) {
    const { element } = list, set = Number(element.dataset.window);
    let height = set || ROW_PX;
    const measure = () => {
      const rows = element.querySelectorAll(":scope > [data-key]");
      if (!set && rows.length) height = (rows[rows.length - 1].getBoundingClientRect().bottom - rows[0].getBoundingClientRect().top) / rows.length || height;
    };
    const spacer = (css) => {
      const one = document.createElement(element.tagName === "TBODY" ? "tr" : element.tagName === "UL" ? "li" : "div");
      one.className = css; one.setAttribute("aria-hidden", "true");
      return one;
    };
    const above = spacer("spacer"), below = spacer("spacer spacer-end");
    element.prepend(above); element.append(below);
    list.space = (start) => {
      measure();
      const shown = element.querySelectorAll(":scope > [data-key]").length;
      above.style.height = `${start * height}px`;
      below.style.height = `${Math.max(0, list.total - start - shown) * height}px`;
    };
    list.space(0);
    let timer = null;
    const look = () => {
      timer = null;
      const top = Math.max(0, -element.getBoundingClientRect().top);
      const start = Math.max(0, Math.floor(top / height) - OVERSCAN_ROWS);
      const count = Math.min(200, Math.ceil(innerHeight / height) + 2 * OVERSCAN_ROWS);
      if (Math.abs(start - list.start) >= OVERSCAN_ROWS / 2 || count !== list.count || (start === 0 && list.start)) {
        list.start = start; list.count = count;
        send({ do: "window", id: list.id, start, count });
      }
    };
    addEventListener("scroll", () => { timer = timer || setTimeout(look, 60); }, { passive: true });
    addEventListener("resize", () => { timer = timer || setTimeout(look, 60); }, { passive: true });
    list.count = Math.min(200, Math.ceil(innerHeight / height) + 2 * OVERSCAN_ROWS);
  }

  // ---- small things
  function toast(text, isBad = false, stays = TOAST_MS) {
    const one = document.createElement("div");
    one.dataset.stays = stays;
    one.className = isBad ? "toast bad" : "toast";
    one.append(Object.assign(document.createElement("p"), { textContent: text }));
    document.getElementById("toast").append(one);
    return one;
  }
  document.addEventListener("click", async (event) => {
    const at = (selector) => event.target.closest(selector);
    let found;
    if ((found = at("[data-close]"))) found.closest(".toast").remove();
    else if ((found = at("[data-set-theme]"))) setTheme(found.dataset.setTheme);
    else if ((found = at("[data-dialog]"))) {
      await htmx.ajax("GET", found.dataset.dialog, { target: "#dialog-body", swap: "innerHTML" });
      document.getElementById("dialog").showModal();
    } else if (at("[data-close-dialog]")) document.getElementById("dialog").close();
    else if ((found = at("[data-pick]"))) {
      const input = document.getElementById(found.dataset.to);
      input.value = input.tagName === "TEXTAREA" && input.value.trim() ? `${input.value.trimEnd()}\n${found.dataset.pick}` : found.dataset.pick;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      document.getElementById("dialog").close();
    } else if ((found = at("[data-reveal]"))) {
      const input = document.getElementById(found.dataset.reveal), show = input.type === "password";
      input.type = show ? "text" : "password";
      found.setAttribute("aria-pressed", String(show));
    } else if (at("[data-print]")) print();
    else if ((found = at("[data-copy]"))) {
      await navigator.clipboard.writeText(found.dataset.copy);
      toast(document.body.dataset.copied);
    }
    const box = document.getElementById("found");
    if (box && !event.target.closest(".find")) box.replaceChildren();
  });
  // ---- while the node is stopped a link does not lead to the browser's own page of errors
  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[href^='/']");
    if (!link || document.getElementById("stopped").hidden) return;
    event.preventDefault();
    await fetch("/favicon.ico", { cache: "no-store" }).then(() => location.assign(link.href), () => {});
  }, true);
  // ---- what can be undone: a button with data-undo acts some seconds later, or when the page is left
  const waiting = new Set();
  const rowOf = (doing) => doing.key && doing.list.querySelector(`:scope > [data-key="${CSS.escape(doing.key)}"]`);
  const dim = (doing, is) => rowOf(doing)?.classList.toggle("going", is);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-undo]");
    if (!button) return;
    event.preventDefault(); event.stopPropagation();
    const row = button.closest("[data-key]"), path = button.getAttribute("hx-post"), values = button.getAttribute("hx-vals") || "{}";
    if ([...waiting].some((one) => one.path === path && one.values === values)) return;
    const doing = { path, values, key: row?.dataset.key, list: row?.parentElement };
    doing.timer = setTimeout(() => finish(doing), UNDO_MS);
    waiting.add(doing);
    dim(doing, true);
    const told = toast(button.dataset.undo, false, UNDO_MS), undo = document.createElement("button");
    undo.type = "button"; undo.className = "button"; undo.textContent = document.body.dataset.undoWord;
    undo.addEventListener("click", () => {
      clearTimeout(doing.timer); waiting.delete(doing);
      dim(doing, false);
      told.remove();
    });
    told.append(undo);
    doing.told = told;
  }, true);
  async function finish(doing) {
    if (!waiting.delete(doing)) return;
    clearTimeout(doing.timer);
    doing.told.remove();
    const answer = await fetch(doing.path, {
      method: "POST", keepalive: true, headers: { "HX-Request": "true", "HX-Target": "toast" },
      body: new URLSearchParams(JSON.parse(doing.values)),
    });
    const made = parsed(await answer.text());
    if (!made || !made.classList.contains("bad")) return;
    document.getElementById("toast").append(made);
    dim(doing, false);
  }
  addEventListener("pagehide", () => { for (const doing of [...waiting]) finish(doing); });

  function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-set-theme]"))
      button.setAttribute("aria-pressed", String(button.dataset.setTheme === theme));
    fetch("/theme", { method: "POST", body: new URLSearchParams({ theme }) });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "z" && (event.ctrlKey || event.metaKey) && !isTyping() && waiting.size) {
      event.preventDefault();
      [...waiting].at(-1).told.querySelector(".button").click();
    }
    if (event.key === "/" && !isTyping()) { event.preventDefault(); document.getElementById("find").focus(); }
    const box = document.getElementById("found");
    if (!box || !event.target.closest?.(".find")) return;
    const links = [...box.querySelectorAll("a")], here = links.indexOf(document.activeElement);
    if (event.key === "ArrowDown" && links.length) { event.preventDefault(); links[Math.min(here + 1, links.length - 1)].focus(); }
    else if (event.key === "ArrowUp" && here >= 0) { event.preventDefault(); (links[here - 1] || document.getElementById("find")).focus(); }
    else if (event.key === "Escape") { box.replaceChildren(); document.getElementById("find").focus(); }
  });
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (field.dataset.mask) mask(field);
    else if (field.dataset.narrows) narrow(field);
  });
  // data-adds="ID": what is chosen there becomes a line of that list
  function adds(field) {
    const list = document.getElementById(field.dataset.adds), name = field.value.trim();
    field.value = "";
    if (name && !list.value.split("\n").includes(name)) list.value = [list.value.trimEnd(), name].filter(Boolean).join("\n");
  }
  document.addEventListener("change", (event) => { if (event.target.dataset.adds) adds(event.target); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.dataset?.adds) { event.preventDefault(); adds(event.target); }
  });
  // data-mask="WORD": a text that begins so opens something; it is masked then, unless it is shown on purpose
  function mask(field) {
    const reveal = document.querySelector(`[data-reveal="${field.id}"]`);
    if (reveal?.getAttribute("aria-pressed") === "true") return;
    const opens = (word) => word.length > field.dataset.mask.length && word.toLowerCase().startsWith(field.dataset.mask);
    const type = field.value.split(/\s+/).some(opens) ? "password" : "text";
    if (field.type !== type) field.type = type;
  }
  // data-narrows="SELECTOR": of the rows there only those stay that have all words of the field
  function narrow(field) {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const part of document.querySelector(field.dataset.narrows).children) {
      const rows = [...part.querySelectorAll(".row")];
      for (const row of rows) {
        const text = `${row.dataset.words} ${row.textContent}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      const shown = rows.filter((row) => !row.hidden).length;
      part.hidden = !shown;
      left += shown;
    }
    const told = document.getElementById(field.getAttribute("aria-describedby"));
    told.textContent = left ? "" : told.dataset.none;
  }
  document.addEventListener("visibilitychange", () => send({ do: "pause", is_paused: document.hidden }));
  document.addEventListener("htmx:afterSwap", (event) => {
    scan();
    refreshTimes();
    if (event.detail.target.id === "dialog-body" && !document.getElementById("dialog").open) document.getElementById("dialog").showModal();
  });
  document.addEventListener("htmx:sendError", () => { document.getElementById("stopped").hidden = false; if (!socket) connect(); });
  new MutationObserver((changes) => {
    for (const change of changes)
      for (const node of change.addedNodes)
        if (node.nodeType === 1) setTimeout(() => node.remove(), Number(node.dataset.stays || TOAST_MS));
  }).observe(document.getElementById("toast"), { childList: true });

  window.coterie = {
    language, refreshTimes, toast, scan,
    onRows(name, callback) { watchers.set(name, [...(watchers.get(name) || []), callback]); },
    rewatch(element, args) {
      const list = lists.get(element.liveNumber);
      if (!list) return;
      list.args = args; list.start = 0;
      ask(list);
    },
  };
  refreshTimes();
  setInterval(() => { if (!document.hidden) refreshTimes(); }, 20000);
  scan();
})();
