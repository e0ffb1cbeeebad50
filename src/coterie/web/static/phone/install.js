// On every page of a phone: the worker, where the browser has one.
"use strict";
if ("serviceWorker" in navigator) navigator.serviceWorker.register("/sw.js", { scope: "/" }).catch(() => {});
