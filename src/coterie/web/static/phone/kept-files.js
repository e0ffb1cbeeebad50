// Files that another app shared with this one, kept on the phone until they have arrived: for the page and its worker.
"use strict";
const KeptFiles = {
  open() {
    return new Promise((resolve, reject) => {
      const asked = indexedDB.open("coterie", 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore("files", { autoIncrement: true });
      asked.onsuccess = () => resolve(asked.result);
      asked.onerror = () => reject(asked.error);
    });
  },
  async _do(mode, work) {
    const database = await this.open();
    try {
      return await new Promise((resolve, reject) => {
        const step = database.transaction("files", mode);
        const asked = work(step.objectStore("files"));
        step.oncomplete = () => resolve(asked.result);
        step.onerror = step.onabort = () => reject(step.error);
      });
    } finally {
      database.close();
    }
  },
  add(file) {
    return this._do("readwrite", (store) => store.add(file));
  },
  async all() {
    const keys = await this._do("readonly", (store) => store.getAllKeys());
    const files = await this._do("readonly", (store) => store.getAll());
    return keys.map((key, at) => ({ key, file: files[at] }));
  },
  remove(key) {
    return this._do("readwrite", (store) => store.delete(key));
  },
};
